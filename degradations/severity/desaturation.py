"""Colour that fades to grey."""

from typing import Literal

import torch
from torch import Tensor

from common.errors import UserError
from degradations.base import Params, Shape
from degradations.colour_mix import ColourMix
from degradations.severity.base import DeviceTable, SeverityFamily, check_steps

_STEPS = {"cifar10": 20, "celeba_64": 20, "celeba": 20}


class Desaturation(SeverityFamily):
    """D(x, t) = a_t x + (1 - a_t) mean of the three channels (arithmetic, not luma); at T every pixel is grey.

    Args:
        data: 20 steps for all.
        steps: T instead. Bansal et al. 2022 (2208.09392), appendix.
        schedule: "linear" a_t = 1 - t / T; "constant" a_t = 0.9^t but a_T = 0, as the released code has it.

    Raises:
        UserError: images that are not of three channels.
    """

    def __init__(
        self,
        *,
        data: Literal["cifar10", "celeba_64", "celeba"] = "cifar10",
        steps: int | None = None,
        schedule: Literal["linear", "constant"] = "linear",
    ) -> None:
        if data not in _STEPS or schedule not in ("linear", "constant"):
            raise UserError(
                f"data must be one of {', '.join(_STEPS)} and schedule linear or constant, got '{data}' and"
                f" '{schedule}'"
            )
        self.severities = _STEPS[data] if steps is None else steps
        check_steps("steps", self.severities)
        self.schedule = schedule
        t = torch.arange(self.severities + 1, dtype=torch.float64)
        colour = 1 - t / self.severities if schedule == "linear" else torch.where(t < self.severities, 0.9**t, 0)
        self._colour = DeviceTable(colour)
        self.description = f"desaturation ({schedule}), {self.severities} steps"

    def check(self, shape: Shape) -> None:
        if shape[0] != 3:
            raise UserError(
                f"desaturation needs colour images of three channels, got {shape[0]}: take another family, or colour"
                " images"
            )

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        del params
        colour = self._colour.like(x)[t].view(-1, 1, 1, 1)
        return torch.lerp(x.mean(1, keepdim=True).expand_as(x), x, colour)

    def operator(self, t: int, params: Params, shape: Shape) -> ColourMix:
        del params
        return ColourMix(float(self._colour.values[t]), shape, description=self.description)
