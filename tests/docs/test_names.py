"""What pages, configs and notebooks name is in the tree: modules, classes, files, programs and their options."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from pages import HISTORY, PAGES, PLACEHOLDER, WRITTEN, balanced, braces, files_of_page, name_of
from test_structure import FLOOR_OF, ROOT

ROOMS = sorted(room for room in FLOOR_OF if (ROOT / room).is_dir())
#: What programs make or users have, beside the folders of the project.
MADE = {"data", "runs", "results", "wandb", "pictures", "restored", "weights"}
FOLDERS = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name[0] not in "._" and p.name not in MADE)
PROGRAMS = [name for name in FLOOR_OF if (ROOT / f"{name}.py").is_file()]
#: Programs of others that pages start with python -m.
OTHERS = {"venv", "pip", "pytest", "jupyter"}
#: Options of train.py that Lightning brings.
LIGHTNING = {"config", "ckpt_path", "print_config"}

written = pytest.mark.parametrize("page", [p for p in WRITTEN if p != HISTORY], ids=name_of)


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


@written
def test_modules_and_classes_exist(page):
    text = page.read_text()
    named = {"".join(m.groups()) for m in _DOTTED.finditer(text)}
    named |= set(re.findall(r"python -m ([\w.]+)", text)) - OTHERS
    shown = tuple(path.removesuffix(".py").replace("/", ".") for path in files_of_page(text))
    wrong = [n for n in sorted(named) if not PLACEHOLDER.search(n) and not exists(n) and not n.startswith(shown)]
    assert not wrong, f"{name_of(page)} names {wrong}, which are not in the tree"


#: Files of users: those of an example, of a run folder, of a data set under DATA_DIR.
_NOT_OURS = re.compile(r"damage\.py|checkpoints/\w+\.ckpt|restoration/(dip|Set5|Set12|BSD68|BSDS400|CBSD68|Kodak24)\b")


_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./{{}},*-]*(?:\{{[^}}]*\}}[\w./*-]*)*")


@written
def test_files_that_are_named_exist(page):
    text = re.sub(r"\]\([^)]*\)", "]", page.read_text())
    named = {p for match in _PATH.findall(text) for p in braces(balanced(match))}
    named |= {w for w in re.findall(r"(?<![\w./-])(\w+\.py)\b", text) if w[:-3] in PROGRAMS or f"python {w}" in text}
    wrong = []
    for path in sorted(named - set(files_of_page(text))):
        if PLACEHOLDER.search(path.replace("*", "")) or _NOT_OURS.match(path):
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
    files.append(ROOT.joinpath(*program.split("."), "__main__.py"))  # of a package that is a program
    files += [f for room in rooms.get(program, ["checkpoints", "benchmarks"]) for f in (ROOT / room).rglob("*.py")]
    return "\n".join(f.read_text() for f in files if f is not None and f.is_file())


@pytest.mark.parametrize("page", [p for p in PAGES if p != HISTORY], ids=name_of)
def test_options_of_commands_are_those_of_the_program(page):
    wrong = []
    for words in commands(page):
        program = words[1] if words[0] == "-m" else words[0]
        if program in OTHERS or PLACEHOLDER.search(program):
            continue
        for word in words[1:]:
            option = re.match(r"--([A-Za-z]\w*)(?![\w.-])", word)
            if option and (option[1] in LIGHTNING or (program in CONFIGURED and "=" in word)):
                continue  # a key of an evaluation's config may be given as an option
            if option and f'"--{option[1]}"' not in source_of(program):
                wrong.append(f"{program} {word}")
        for config in (words[k + 1] for k, word in enumerate(words[:-1]) if word == "--config"):
            if re.match(r"configs/[^$]*$", config) and not PLACEHOLDER.search(config) and not (ROOT / config).is_file():
                wrong.append(f"--config {config}")
    assert not wrong, f"{name_of(page)} shows {wrong}, which the programs do not take"


#: Programs that take any key of an evaluation's config as an option.
CONFIGURED = ("evaluate.py", "studies.chain", "studies.prior_quality", "studies.tune")
#: What a class is set behind; keys of users, such as methods.NAME, are not among them.
_OPTION = re.compile(
    r"--(?:model|data|method|degradation|quality|samples|ema|checkpoint|preemption|wandb|restored|health)"
    r"\.([A-Za-z_][\w.]*\w)"
)
#: Words of jsonargparse; parts of a dictionary that a page makes up.
_NOT_OPTIONS = {"class_path", "init_args", "help"}


@cache
def option_names() -> frozenset[str]:
    """Parameters of every constructor, and fields of every dataclass."""
    found = set()
    for room in FLOOR_OF:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                    found |= {a.arg for a in [*node.args.args, *node.args.kwonlyargs]}
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found.add(node.target.id)
    return frozenset(found)


@written
def test_options_that_are_named_exist(page):
    parts = {part for option in _OPTION.findall(page.read_text()) for part in option.split(".")}
    wrong = sorted(p for p in parts - _NOT_OPTIONS - option_names() if not p.isupper())
    assert not wrong, f"{page.name} names {wrong}, which are options of no class"
