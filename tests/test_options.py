"""Every option explains itself: a line under ``Args:`` for each option of each class that a config can name."""

import ast
import importlib
import inspect
from pathlib import Path

import docstring_parser
import pytest

from common.build import named_parameters

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "callbacks",
    "checkpoints",
    "datamodules",
    "degradations",
    "diffusion",
    "lightning_modules",
    "metrics",
    "networks",
    "restoration",
)

#: Options that a command hands in and no config gives.
GIVEN = {"prior", "self"}

#: What a config names is a leaf of one of these, by name because some of them need Lightning; the last are options of
#: options.
BASES = {
    *("Recorded", "Callback", "RunData", "Degradation", "Noise", "Sampler", "Method", "StoppingCriterion", "Term"),
    *("Metric", "SetMetric", "DistributionMetric", "RunModule", "Weighting", "FeatureNetwork"),
    *("ConditioningBank", "AdapterEntry", "LoRASettings"),
}


def configurable() -> list[type]:
    """Public concrete classes whose constructor has named options, in the order of their files."""
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not any(isinstance(n, ast.ClassDef) for n in ast.parse(path.read_text(encoding="utf-8")).body):
                continue
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for name, cls in vars(module).items():
                own = inspect.isclass(cls) and cls.__module__ == module.__name__ and not name.startswith("_")
                if not own or inspect.isabstract(cls) or issubclass(cls, BaseException):
                    continue
                if named_parameters(cls) and BASES & {c.__name__ for c in cls.__mro__}:
                    found.append(cls)
    return found


def explained(cls: type) -> set[str]:
    """Options with a description in the docstring of the class or of a class that it hands its ``**options`` to."""
    names: set[str] = set()
    for owner in (c for c in cls.__mro__ if c.__module__.split(".")[0] in ROOMS):
        for text in (vars(owner).get("__doc__"), getattr(vars(owner).get("__init__"), "__doc__", None)):
            if text:
                try:
                    parsed = docstring_parser.parse(
                        inspect.cleandoc(text), style=docstring_parser.DocstringStyle.GOOGLE
                    )
                except docstring_parser.ParseError as error:
                    raise AssertionError(f"the docstring of {owner.__qualname__} cannot be read: {error}") from error
                names |= {p.arg_name for p in parsed.params if (p.description or "").strip()}
    return names


@pytest.mark.parametrize("cls", configurable(), ids=lambda c: f"{c.__module__}.{c.__qualname__}")
def test_every_option_has_a_line(cls):
    missing = [n for n in named_parameters(cls) if n not in explained(cls) | GIVEN]
    assert not missing, (
        f"{cls.__module__}.{cls.__qualname__}: no line under Args: for {', '.join(missing)}; say what it is, its shape,"
        " range and unit, and the reason of its default"
    )
