"""The method that CONTRIBUTING.md writes from an empty file passes the battery of all methods, and its own test."""

import importlib.util
import inspect
import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_structure import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
NAME = "ddnm"


def file_of_page(path: str) -> str:
    """The code block after the mark <!-- file PATH -->."""
    block = re.search(rf"<!-- file {re.escape(path)} -->\n```python\n(.*?)^```", PAGE, re.S | re.M)
    assert block is not None, f"CONTRIBUTING.md has no block for {path}"
    return block[1]


def module(name: str, path: str) -> types.ModuleType:
    """The block as the module that it would be."""
    made = types.ModuleType(name)
    exec(compile(file_of_page(path), f"CONTRIBUTING.md, {path}", "exec"), made.__dict__)
    return made


@pytest.fixture(scope="module")
def ddnm() -> Iterator[type]:
    """The class, importable as a configuration names it."""
    with pytest.MonkeyPatch.context() as patch:
        made = module(f"restoration.{NAME}", f"restoration/{NAME}.py")
        patch.setitem(sys.modules, made.__name__, made)
        yield made.DDNM


def load_battery() -> types.ModuleType:
    path = ROOT / "tests" / "restoration" / "test_every_method.py"
    spec = importlib.util.spec_from_file_location("battery_for_contributing", path)
    assert spec is not None and spec.loader is not None
    battery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(battery)
    return battery


BATTERY = load_battery()


def cases() -> list[Any]:
    """Every test of the battery that is about one method, and each of its tasks."""
    found = []
    for function in vars(BATTERY).values():
        if not callable(function) or not getattr(function, "__name__", "").startswith("test_"):
            continue
        wanted = set(inspect.signature(function).parameters)
        if "name" not in wanted:
            continue
        assert wanted <= {"name", "method", "task"}, f"{function.__name__} takes {wanted}: say here what that is"
        for task in BATTERY.TASKS if "task" in wanted else [None]:
            found.append(pytest.param(function, task, id="-".join(filter(None, [function.__name__, task]))))
    return found


@pytest.mark.parametrize(("function", "task"), cases())
def test_the_method_of_the_page_passes_the_battery(ddnm, monkeypatch, function: Callable[..., None], task: str | None):
    monkeypatch.setitem(BATTERY.METHODS, NAME, ddnm)
    given = {"name": NAME, "method": BATTERY.method_named(NAME), "task": task}
    function(**{name: given[name] for name in inspect.signature(function).parameters})


def test_its_own_test_passes(ddnm):
    tests = module("test_ddnm", f"tests/restoration/test_{NAME}.py")
    found = [function for name, function in vars(tests).items() if name.startswith("test_")]
    assert found
    for function in found:
        function()


def test_the_battery_sees_what_the_page_says_it_sees(ddnm, monkeypatch):
    """With the bias of an exact method, the moments fail, as step 4 tells."""
    honest = type("Boastful", (ddnm,), {"bias": BATTERY.Bias(), "stream": NAME, "__doc__": ddnm.__doc__})
    monkeypatch.setitem(BATTERY.METHODS, "boastful", honest)
    with pytest.raises(AssertionError):
        BATTERY.test_moments_on_gaussian_data("boastful")


def test_the_method_of_the_notebook_declares_how_far_off_it_is(monkeypatch):
    cells = json.loads((ROOT / "examples" / "add_a_method.ipynb").read_text())["cells"]
    source = next("".join(c["source"]) for c in cells if "class Replacement" in "".join(c["source"]))
    made = types.ModuleType("replacement")
    exec(compile(source, "add_a_method.ipynb", "exec"), made.__dict__)
    monkeypatch.setitem(BATTERY.METHODS, "replacement", made.Replacement)
    BATTERY.test_moments_on_gaussian_data("replacement")
