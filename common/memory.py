"""What is done when a device has too little memory: fewer at once."""

from collections.abc import Callable
from typing import TypeVar

import torch

from common.errors import UserError

T = TypeVar("T")


def fits(call: Callable[[], object]) -> bool:
    """Whether `call` ends with the device's memory being enough for it; what it had taken of it is given back."""
    try:
        call()
    except (torch.OutOfMemoryError, MemoryError):
        enough = False
    except RuntimeError as error:  # of a CPU
        if "can't allocate memory" not in str(error):
            raise
        enough = False
    else:
        return True
    if torch.cuda.is_available():  # here, not above: the error holds on to what the call had
        torch.cuda.empty_cache()
    return enough


def in_batches(items: list[T], size: int, do: Callable[[list[T]], None], *, none_fits: str) -> int:
    """``do(batch)`` for all items in order, `size` at a time; where the device's memory does not suffice, half as many,
    and the same ones again.

    Args:
        do: leaves nothing behind where it fails.
        none_fits: the words of the UserError where one at a time is too many.

    Returns:
        how many at a time it came to.
    """
    left = list(items)
    while left:
        batch = left[:size]
        if fits(lambda batch=batch: do(batch)):
            left = left[size:]
        elif len(batch) == 1:
            raise UserError(none_fits)
        else:
            size = len(batch) // 2
    return size
