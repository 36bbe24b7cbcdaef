"""The pages of the project, for the tests that read them."""

import re
from pathlib import Path

from test_structure import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "assets").glob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
#: Configs, scripts and notebooks name files, classes and options in their comments.
WRITTEN = [
    *PAGES,
    *sorted(p for p in (ROOT / "configs").rglob("*.*") if p.suffix in (".yaml", ".sh")),
    *sorted((ROOT / "examples").glob("*.ipynb")),
    ROOT / "Makefile",
]
#: The history of names, which has the old ones on purpose.
HISTORY = ROOT / "CHANGELOG.md"
#: What stands for something that the reader chooses.
PLACEHOLDER = re.compile(r"NAME|CLASS|MODULE|ROOM|FILE|\.\.\.|[<>*]")


def name_of(page: Path) -> str:
    """For the ids of tests."""
    return page.relative_to(ROOT).as_posix()


def files_of_page(text: str) -> list[str]:
    """Files that are written on the page itself: blocks after the mark <!-- file PATH -->, the class of a notebook."""
    return [*re.findall(r"<!-- file (\S+) -->", text), *re.findall(r"this class would be the file `(\S+?)`", text)]


def without_blocks(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)


def without_code(text: str) -> str:
    """The text without code blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", without_blocks(text))


def balanced(text: str) -> str:
    """Without what belongs to the sentence or the YAML around a path."""
    text = text.rstrip(".,:")
    return text if text.count("{") == text.count("}") else text.rstrip("}")


def braces(text: str) -> list[str]:
    """a/{b,c}.py -> a/b.py, a/c.py."""
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        return [text]
    options = match[1].split(",")
    return [p for o in options for p in braces(text[: match.start()] + o.strip() + text[match.end() :])]
