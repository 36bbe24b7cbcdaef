"""What README and docs say of the tree is true: links, anchors, programs, options, files and class paths."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from test_structure import FLOOR_OF, FLOORS, ROOT, WITH_LIGHTNING

from common.renamed import CLASSES, MODULES, OPTIONS

WORDS_IN_README = 700
PICTURE_BYTES = 300_000

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "assets").glob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)
#: Configs, scripts and notebooks name files and classes in their comments.
WRITTEN = [
    *PAGES,
    *sorted(p for p in (ROOT / "configs").rglob("*.*") if p.suffix in (".yaml", ".sh")),
    *sorted((ROOT / "examples").glob("*.ipynb")),
    ROOT / "Makefile",
]
ROOMS = sorted(room for room in FLOOR_OF if (ROOT / room).is_dir())
#: What programs make or users have, beside the folders of the project.
MADE = {"data", "runs", "results", "wandb", "pictures", "restored", "weights"}
FOLDERS = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._" and p.name not in MADE)
PROGRAMS = [name for name in FLOOR_OF if (ROOT / f"{name}.py").is_file()]

#: Options of train.py that Lightning brings.
LIGHTNING = {"config", "ckpt_path", "print_config"}

#: The history of names, which has the old ones on purpose.
OLD_NAMES = {ROOT / "CHANGELOG.md"}
_PLACEHOLDER = re.compile(r"NAME|CLASS|MODULE|ROOM|FILE|\.\.\.|[<>*]")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def files_of_page(text: str) -> list[str]:
    """Files that are written on the page itself: blocks after the mark <!-- file PATH -->, the class of a notebook."""
    return [*re.findall(r"<!-- file (\S+) -->", text), *re.findall(r"this class would be the file `(\S+?)`", text)]


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The names that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M):
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


@cache
def module_file(dotted: str) -> Path | None:
    path = ROOT.joinpath(*dotted.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return path if path.is_dir() else None


@cache
def names_in(file: Path) -> dict[str, frozenset[str]]:
    """Names at the top of a module, and the names in each of its classes."""
    found: dict[str, frozenset[str]] = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            inner = {n.name for n in node.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
            fields = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
            found[node.name] = frozenset(inner | fields)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = frozenset()
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update({n.id: frozenset() for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)})
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update({(a.asname or a.name): frozenset() for a in node.names})
    return found


def exists(dotted: str) -> bool:
    """Whether package.module, package.module.name or package.module.Class.name is in the tree."""
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        file = module_file(".".join(parts[:k]))
        if file is None:
            continue
        rest = parts[k:]
        if not rest:
            return True
        if file.is_dir():
            return False
        names = names_in(file)
        return rest[0] in names and (len(rest) == 1 or (len(rest) == 2 and rest[1] in names[rest[0]]))
    return False


_SUFFIXES = r"(?!(?:py|yaml|yml|md|csv|png|css|json|ckpt|txt|safetensors|pt|html|sh|ipynb)\b)"
_DOTTED = re.compile(rf"(?<![\w./-])({'|'.join(ROOMS)})((?:\.{_SUFFIXES}[A-Za-z_]\w*)+)(?![\w/]|\.\w)")


@pytest.mark.parametrize("page", [p for p in WRITTEN if p not in OLD_NAMES], ids=name_of)
def test_modules_and_classes_exist(page):
    text = page.read_text()
    named = {"".join(m.groups()) for m in _DOTTED.finditer(text)}
    named |= set(re.findall(r"python -m ([\w.]+)", text)) - {"venv", "pip", "pytest", "jupyter"}
    shown = tuple(path.removesuffix(".py").replace("/", ".") for path in files_of_page(text))
    wrong = [n for n in sorted(named) if not _PLACEHOLDER.search(n) and not exists(n) and not n.startswith(shown)]
    assert not wrong, f"{name_of(page)} names {wrong}, which are not in the tree"


#: Files of users: those of an example, of a run folder, of a data set under DATA_DIR.
_NOT_OURS = re.compile(r"damage\.py|checkpoints/\w+\.ckpt|restoration/(dip|Set5|Set12|BSD68)/")


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


_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./{{}},*-]*(?:\{{[^}}]*\}}[\w./*-]*)*")


@pytest.mark.parametrize("page", [p for p in WRITTEN if p not in OLD_NAMES], ids=name_of)
def test_files_that_are_named_exist(page):
    text = re.sub(r"\]\([^)]*\)", "]", page.read_text())
    named = {p for match in _PATH.findall(text) for p in braces(balanced(match))}
    named |= {w for w in re.findall(r"(?<![\w./-])(\w+\.py)\b", text) if w[:-3] in PROGRAMS or f"python {w}" in text}
    wrong = []
    for path in sorted(named - set(files_of_page(text))):
        if _PLACEHOLDER.search(path.replace("*", "")) or _NOT_OURS.match(path):
            continue
        there = next(ROOT.glob(path), None) if "*" in path else (ROOT / path).exists()
        if not there and not (page.parent / path).exists():
            wrong.append(path)
    assert not wrong, f"{name_of(page)} names {wrong}, which are not in the tree"


def commands(page: Path) -> list[list[str]]:
    """Every line of the code blocks of a page that starts a program of this project; ``\\`` joins lines."""
    text = page.read_text()
    blocks = re.findall(r"^```(?:bash|sh|)\n(.*?)^```", text, re.S | re.M)
    blocks.append("\n".join(re.findall(r"^    (\S.*)$", text, re.M)))
    found = []
    for block in blocks:
        for line in re.sub(r"\\\n", " ", block).splitlines():
            for part in re.split(r"&&|;|\|", line.partition(" # ")[0].partition("  #")[0]):
                match = re.search(r"(?:^|\s)(?:\S*/)?python (?=-m |\w+\.py)", part)
                if match:
                    found.append(shlex.split(part[match.end() :]))
    return found


@cache
def source_of(program: str) -> str:
    """The text in which a program's options stand: its own file, and the rooms that parse for it."""
    rooms = {
        "train.py": ["training", "callbacks"],
        "evaluate.py": ["evaluation"],
        "restore.py": ["inference"],
        "sweep.py": ["sweeps"],
    }
    files = [ROOT / program] if program.endswith(".py") else [module_file(program)]
    files += [f for room in rooms.get(program, ["checkpoints", "benchmarks"]) for f in (ROOT / room).rglob("*.py")]
    return "\n".join(f.read_text() for f in files if f is not None and f.is_file())


@pytest.mark.parametrize("page", [p for p in PAGES if p not in OLD_NAMES], ids=name_of)
def test_options_of_commands_are_those_of_the_program(page):
    wrong = []
    for words in commands(page):
        program = words[1] if words[0] == "-m" else words[0]
        if program in ("venv", "pip", "pytest", "jupyter") or _PLACEHOLDER.search(program):
            continue
        for word in words[1:]:
            option = re.match(r"--([A-Za-z]\w*)(?![\w.-])", word)
            if option and (option[1] in LIGHTNING or (program == "evaluate.py" and "=" in word)):
                continue  # a key of an evaluation's config may be given as an option
            if option and f'"--{option[1]}"' not in source_of(program):
                wrong.append(f"{program} {word}")
        for config in (words[k + 1] for k, word in enumerate(words[:-1]) if word == "--config"):
            if (
                re.match(r"configs/[^$]*$", config)
                and not _PLACEHOLDER.search(config)
                and not (ROOT / config).is_file()
            ):
                wrong.append(f"--config {config}")
    assert not wrong, f"{name_of(page)} shows {wrong}, which the programs do not take"


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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tables_are_whole(page):
    """Every row has the columns of its head; a bar in code is written ``\\|``, or it would begin another column."""
    wrong, columns = [], None
    for line in re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M).splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        count = len(re.split(r"(?<!\\)\|", line.rstrip().removeprefix("|").removesuffix("|")))
        columns = columns or count
        if count != columns:
            wrong.append(f"{count} columns, its head has {columns}: {line[:90]}")
    assert not wrong, "\n".join(wrong)
