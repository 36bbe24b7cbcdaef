"""What a fit monitors, a number for every iteration."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

FIRST = 256  # iterations that a curve has room for at first


class Curves:
    """Numbers of each row by name and iteration, NaN where there was none.

    In one tensor for each name that doubles where it is full: thousands of small ones, each made between the large ones
    of an iteration, keep the allocator from giving those back (0.1 MB an iteration at 128 x 128 pixels).
    """

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}  # [room, B]

    def record(self, iteration: int, values: Mapping[str, Tensor]) -> None:
        """The numbers [B] of an iteration, counted from 1."""
        for name, value in values.items():
            kept = self._values.get(name)
            room = 0 if kept is None else len(kept)
            if kept is None or room < iteration:
                grown = value.new_full((max(FIRST, 2 * room, iteration), len(value)), math.nan)
                if kept is not None:
                    grown[:room] = kept
                self._values[name] = kept = grown
            kept[iteration - 1] = value

    def upto(self, iteration: int) -> dict[str, Tensor]:
        """By name, the numbers [iteration, B]."""
        found = {}
        for name, kept in self._values.items():
            missing = kept.new_full((max(0, iteration - len(kept)), kept.shape[1]), math.nan)
            found[name] = torch.cat([kept[:iteration], missing])
        return found

    def restore(self, saved: Mapping[str, Tensor | Sequence[Tensor]], device: torch.device) -> None:
        """What :meth:`upto` gave, or a list of tensors [B] in place of each, on a device."""
        self._values = {
            name: (values if isinstance(values, Tensor) else torch.stack(list(values))).to(device)
            for name, values in saved.items()
            if len(values)
        }
