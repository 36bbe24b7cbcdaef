"""The house: which room may import which, no circles, Lightning only where it belongs; from the source of all files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: The floors, from the ground up. A file imports from its own room and from floors below, never from above or from a
#: neighbour on the same floor.
FLOORS = [
    {"common"},
    {"degradations", "networks"},
    {"metrics", "datamodules"},
    {"diffusion"},
    {"restoration"},
    {"checkpoints"},
    {"evaluation"},
    {"inference", "lightning_modules"},
    {"callbacks", "studies"},
    {"training"},
    {"sweeps"},
    {"train", "evaluate", "restore", "sweep", "benchmarks"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

#: Rooms that may import Lightning; in datamodules only the files that are a DataModule do.
WITH_LIGHTNING = {"lightning_modules", "callbacks", "training", "benchmarks", "datamodules"}


def sources() -> list[Path]:
    """Every Python file outside of tests and examples."""
    top = [ROOT / f"{name}.py" for name in ("train", "evaluate", "restore", "sweep")]
    return [*top, *(p for room in FLOOR_OF for p in sorted((ROOT / room).rglob("*.py")))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, everywhere: bool = True) -> dict[str, int]:
    """Imported modules with their lines; everywhere: also inside functions."""
    found: dict[str, int] = {}

    def visit(node: ast.AST) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not everywhere:
            return
        if isinstance(node, ast.Import):
            found.update({alias.name: node.lineno for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found[node.module] = node.lineno
            found.update({f"{node.module}.{alias.name}": node.lineno for alias in node.names})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def test_every_room_stands_on_a_floor():
    rooms = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests"}
    missing, gone = (
        sorted(rooms - set(FLOOR_OF)),
        sorted(r for r in FLOOR_OF if not (ROOT / r).exists() and not (ROOT / f"{r}.py").exists()),
    )
    assert not missing, f"no floor is named for {missing}: add them to FLOORS in tests/test_structure.py"
    assert not gone, f"FLOORS names {gone}, which are not there"


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_no_import_runs_up_or_sideways(room):
    """Also those inside functions: a late import is still an arrow."""
    wrong = []
    for path in sources():
        if module_of(path).split(".")[0] != room:
            continue
        for name, line in imports(path).items():
            other = name.split(".")[0]
            if other in FLOOR_OF and other != room and FLOOR_OF[other] >= FLOOR_OF[room]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}, and {other} is not below {room}")
    assert not wrong, "\n".join([*wrong, "move the code down, or hand what is needed in as an argument"])


def test_no_circle_of_imports():
    """Between files, late imports included."""
    modules = {module_of(p): p for p in sources()}
    edges = {m: sorted({n for n in imports(p) if n in modules and n != m}) for m, p in modules.items()}
    done: set[str] = set()
    way: list[str] = []

    def walk(module: str) -> None:
        if module in way:
            circle = " -> ".join([*way[way.index(module) :], module])
            pytest.fail(f"a circle of imports: {circle}; let the upper file hand down what the lower one needs")
        if module in done:
            return
        way.append(module)
        for other in edges[module]:
            walk(other)
        way.pop()
        done.add(module)

    for module in modules:
        walk(module)


def test_lightning_stays_in_its_rooms():
    wrong = []
    for path in sources():
        room = module_of(path).split(".")[0]
        found = {n: line for n, line in imports(path).items() if n.split(".")[0] in ("lightning", "pytorch_lightning")}
        if found and room not in WITH_LIGHTNING:
            wrong += [f"{path.relative_to(ROOT)}:{line} imports {name}" for name, line in found.items()]
    assert not wrong, "\n".join([*wrong, "outside of training nothing needs Lightning: keep it usable in a notebook"])
