"""README and docs hang together: links, anchors, tables, and what must be listed is."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from pages import PAGES, balanced, braces, name_of, without_blocks, without_code
from test_structure import FLOORS, ROOT, WITH_LIGHTNING

from common.renamed import CLASSES, MODULES, OPTIONS

WORDS_IN_README = 700
PICTURE_BYTES = 300_000


@cache
def anchors(page: Path) -> frozenset[str]:
    """The names that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} (.+)$", without_blocks(page.read_text()), re.M):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return frozenset(names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (page.parent / unquote(path)).resolve() if path else page
        if not file.is_relative_to(ROOT):
            wrong.append(f"{target} leads out of the project")
        elif not file.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and (file.suffix != ".md" or anchor not in anchors(file)):
            wrong.append(f"{target}: no such heading; there are {', '.join(sorted(anchors(file)))}")
        elif file.suffix == ".png" and file.stat().st_size > PICTURE_BYTES:
            wrong.append(f"{target} has more than {PICTURE_BYTES} bytes")
    assert not wrong, "\n".join(wrong)


def test_every_page_and_picture_is_reached_from_the_front_door():
    todo, seen = [ROOT / "README.md"], set()
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.suffix == ".md":
            links = re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text()))
            todo += [(page.parent / unquote(link)).resolve() for link in links if not re.match(r"[a-z]+:", link)]
    there = {*PAGES, *(ROOT / "docs").rglob("*.png"), *(ROOT / "examples").glob("*.ipynb")}
    lost = sorted(name_of(p) for p in there - seen)
    assert not lost, f"no link leads to {lost}: name them in docs/index.md or where they belong"


def test_the_front_door_is_short():
    text = (ROOT / "README.md").read_text()
    count = len(text.split())
    assert count <= WORDS_IN_README, f"README.md has {count} words: move something to docs/"
    assert len(re.findall(r"!\[", text)) == 1, "one picture"
    assert "make test" in text, "the command that continuous integration runs stands in README.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_whole(page):
    """Every row has the columns of its head; a bar in code is written ``\\|``, or it would begin another column."""
    wrong, columns = [], None
    for line in without_blocks(page.read_text()).splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        count = len(re.split(r"(?<!\\)\|", line.rstrip().removeprefix("|").removesuffix("|")))
        columns = columns or count
        if count != columns:
            wrong.append(f"{count} columns, its head has {columns}: {line[:90]}")
    assert not wrong, "\n".join(wrong)


def test_the_table_of_floors_is_that_of_the_code():
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", page, re.M)
    found = [{name.removesuffix(".py") for name in re.findall(r"`([\w.]+)`", rooms)} for _, rooms in rows]
    assert found[::-1] == FLOORS
    starred = set(re.findall(r"`([\w.]+)`\*", page))
    assert starred == WITH_LIGHTNING


def test_every_config_has_its_line():
    page = (ROOT / "docs" / "configs.md").read_text()
    patterns = [p for match in re.findall(r"configs/[\w./{},*-]+", page) for p in braces(balanced(match))]
    named = {file for pattern in patterns for file in ROOT.glob(pattern)}
    missing = [name_of(file) for file in sorted((ROOT / "configs").rglob("*.yaml")) if file not in named]
    assert not missing, f"docs/configs.md does not say what these are: {missing}"


def test_the_changelog_has_every_name_that_was_renamed():
    page = (ROOT / "CHANGELOG.md").read_text()
    lines = [f"| `{old}` | `{new}` |" for old, new in {**MODULES, **CLASSES}.items()]
    lines += [f"| `{old}` of `{path}` | `{new}` |" for path, names in OPTIONS.items() for old, new in names.items()]
    missing = [line for line in lines if line not in page]
    assert not missing, "\n".join(["CHANGELOG.md lacks these lines under Names:", *missing])
