"""Private names of libraries: each is still there in the installed version, and none stands outside of one file."""

import ast
import importlib
import importlib.metadata
import platform
from pathlib import Path

import pytest

import common.late_torchmetrics  # noqa: F401  (before Lightning)
from common.build import PROJECT
from common.private_names import USED, destinations, option_strings

ROOMS = sorted({p.parent.name for p in PROJECT.glob("*/__init__.py")} - {"tests"})
#: "package.function" that Python's documentation names, underscore and all.
DOCUMENTED = {"os._exit"}


@pytest.mark.parametrize(("library", "version", "module", "name"), USED, ids=lambda v: str(v).split(".")[-1])
def test_the_name_is_there(library, version, module, name):
    installed = platform.python_version() if library == "python" else importlib.metadata.version(library)
    found = importlib.import_module(module)
    for part in name.split("."):
        part, called = part.removesuffix("()"), part.endswith("()")
        # what objects get in their constructor is not on the class, but it is announced there
        assert hasattr(found, part) or part in getattr(found, "__annotations__", {}), (
            f"{library} {installed} has no {module}.{name} any more, {version} had it: look for what took its place and"
            " change common/private_names.py"
        )
        found = getattr(found, part, None)
        found = found() if called else found


@pytest.mark.parametrize("library", sorted({u[0] for u in USED} - {"python"}))
def test_the_versions_are_those_that_are_pinned(library):
    """An upgrade looks at common/private_names.py: the version of each name there is the pinned one."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    pinned = {w[0].split("[")[0]: w[1].strip() for line in lines if len(w := line.split("==")) == 2}
    named = {version for other, version, _, _ in USED if other == library}
    assert named == {pinned[library]}, (
        f"requirements.txt has {library} {pinned[library]}, common/private_names.py was checked with {sorted(named)}:"
        " see that its names still do what is said there, and change the version"
    )


def private_uses(path: Path) -> list[tuple[int, str]]:
    """(line, "object._name") for every private attribute of anything but self and cls, and every private import."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            base = ast.unparse(node.value)
            if base not in ("self", "cls", "super()"):
                found.append((node.lineno, f"{base}.{node.attr}"))
        elif isinstance(node, ast.ImportFrom):
            private = "._" in f".{node.module}" or any(a.name.startswith("_") for a in node.names)
            if private and node.module != "__future__":
                found.append((node.lineno, f"{node.module}.{node.names[0].name}"))
    return found


def own_names() -> set[str]:
    """Private names that this project itself defines: functions, methods, and attributes of self."""
    found = set()
    for path in (p for room in ROOMS for p in (PROJECT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if ast.unparse(node.value) == "self":
                    found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return {n for n in found if n.startswith("_")} | {"_replace", "_asdict", "_fields"}


def test_none_stands_elsewhere():
    own, wrong = own_names(), []
    for path in [*PROJECT.glob("*.py"), *(p for room in ROOMS for p in sorted((PROJECT / room).rglob("*.py")))]:
        if path != PROJECT / "common/private_names.py":
            uses = [u for u in private_uses(path) if u[1].rpartition(".")[2] not in own and u[1] not in DOCUMENTED]
            wrong += [f"{path.relative_to(PROJECT)}:{line} uses {name}" for line, name in uses]
    assert not wrong, "\n".join(
        [*wrong, "give it a function in common/private_names.py that says why, and a line in USED"]
    )


def test_the_words_of_a_parser():
    from evaluation.command_line import make_parser

    parser = make_parser()
    assert {"--config", "--help", "-h", "--dry_run"} <= set(option_strings(parser))
    assert {"config", "dry_run"} <= set(destinations(parser))
