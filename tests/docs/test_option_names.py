"""Options that pages and comments of configs name, such as --model.sampling_steps, are options of some class."""

import ast
import re
from functools import cache

import pytest
from test_structure import FLOOR_OF, ROOT

WRITTEN = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "assets").glob("*.md")]
    + [p for p in (ROOT / "configs").rglob("*.*") if p.suffix in (".yaml", ".sh")]
)
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


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_that_are_named_exist(page):
    parts = {part for option in _OPTION.findall(page.read_text()) for part in option.split(".")}
    wrong = sorted(p for p in parts - _NOT_OPTIONS - option_names() if not p.isupper())
    assert not wrong, f"{page.name} names {wrong}, which are options of no class"
