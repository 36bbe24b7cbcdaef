"""The shapes that annotations promise (common/tensor_shapes.py), checked by beartype whenever a test calls a function.

jaxtyping's import hook decorates the functions of the named rooms, in the process of the tests alone. Checked is what a
function returned together with what it was given, after the call: what it refuses, it refuses in its own words.
Annotations that are no shapes are left to pyright: fakes may stand for any class in tests.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

ROOMS = ("degradations", "diffusion", "metrics")


def install() -> None:
    """Before the first import of one of the rooms; what was imported before is not checked."""
    install_import_hook(ROOMS, "shape_checks.only_shapes")


def only_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype on annotations that name shapes; the function itself where there are none, and where only parameters are
    asked about, which jaxtyping does before the call (the return type is Any then).
    """
    annotations = function.__annotations__
    shapes = {name: hint for name, hint in annotations.items() if _names_a_shape(hint)}
    if not shapes or annotations.get("return") is Any:
        return function
    function.__annotations__ = shapes
    return beartype(function)


def _names_a_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_names_a_shape(part) for part in get_args(hint))
