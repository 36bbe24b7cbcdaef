"""Gaussian masks: a hole that grows, softly and at a random place, or a covering that leaves nothing."""

from typing import Literal

import torch
from torch import Tensor

from common.errors import UserError
from degradations.base import Operator, Params, Shape
from degradations.diagonal import Diagonal
from degradations.severity.base import DegradedBy, DeviceTable, SeverityFamily, check_steps
from degradations.severity.separable import truncated

# data: (steps, kernel_std, start, place)
_CONSTANTS = {
    "mnist": (50, 0.1, 11, "random"),
    "cifar10": (50, 0.1, 11, "random"),
    "celeba_64": (50, 0.2, 11, "centre"),
    "celeba": (100, 0.2, 11, "centre"),
}


class GaussianMask(SeverityFamily):
    """D(x, t) = x * prod_{i < t} z_i, z_i = 1 - G_i / max G_i, G_i a Gaussian bump of standard deviation kernel_std (i
    + start) pixels; 0 is mid-grey.

    Args:
        data: constants of the released commands, which the other arguments replace: "mnist", "cifar10" 50 steps,
            kernel_std 0.1, start 11, random; "celeba" (128 pixels) 100 steps, kernel_std 0.2, start 11, centre (the
            released test script has start 1, its training script 11: a mismatch; here one value serves both);
            "celeba_64" the same with 50 steps, which leaves the hole as large relative to the image.
        steps: T, the number of severities; null: that of `data`.
        kernel_std: pixels by which the bump widens with each step; null: that of `data`.
        start: step that the widths are counted from; null: that of `data`.
        place: "random": the centre of the hole is drawn once per image, each coordinate from {-1, .., side - 1};
            "centre": at pixel (side - 1) / 2, rounded down.
        truncate: 8 bits of a degraded image, as released for MNIST and CIFAR-10; then it is not linear.
    """

    def __init__(
        self,
        *,
        data: Literal["mnist", "cifar10", "celeba_64", "celeba"] = "mnist",
        steps: int | None = None,
        kernel_std: float | None = None,
        start: int | None = None,
        place: Literal["random", "centre"] | None = None,
        truncate: bool = False,
    ) -> None:
        if data not in _CONSTANTS:
            raise UserError(f"data must be one of {', '.join(_CONSTANTS)}, got '{data}'")
        default = _CONSTANTS[data]
        self.severities = default[0] if steps is None else steps
        self.kernel_std = default[1] if kernel_std is None else float(kernel_std)
        self.start = default[2] if start is None else start
        self.place = place or default[3]
        self.truncate, self.linear = truncate, not truncate
        check_steps("steps", self.severities)
        check_steps("start", self.start)
        if not self.kernel_std > 0 or self.place not in ("random", "centre"):
            raise UserError(
                f"kernel_std must be positive and place random or centre, got {self.kernel_std} and '{self.place}'"
            )
        first, last = self.kernel_std * self.start, self.kernel_std * (self.start + self.severities - 1)
        self.description = f"Gaussian mask ({self.place}), {self.severities} steps of std {first:.4g}..{last:.4g}"
        self._tables: dict[tuple[int, int], DeviceTable] = {}

    @property
    def draws(self) -> bool:
        return self.place == "random"

    def check(self, shape: Shape) -> None:
        if min(shape[1:]) < 2:
            raise UserError(f"a hole needs images of at least 2x2 pixels, got {shape[1]}x{shape[2]}")

    def sample(self, count: int, shape: Shape, generator: torch.Generator) -> Params:
        """place: row and column of the centre, int64 [count, 2]."""
        sides = torch.tensor(shape[1:], device=generator.device)
        if self.place == "centre":
            return {"place": ((sides - 1) // 2).expand(count, 2).contiguous()}
        u = torch.rand(count, 2, generator=generator, device=generator.device, dtype=torch.float64)
        return {"place": (u * (sides + 1)).long() - 1}

    def masks(self, t: Tensor, place: Tensor, like: Tensor) -> Tensor:
        """What is left of the image at severities [B] with holes at [B, 2]: [B, 1, H, W] in the dtype of `like` [B, C,
        H, W].
        """
        height, width = like.shape[2:]
        table = self._table(height, width).like(like)
        # in the table the centre is at (height, width)
        rows = torch.arange(height, device=like.device) - place[:, :1] + height
        columns = torch.arange(width, device=like.device) - place[:, 1:] + width
        return table[t[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        y = x * self.masks(t, params["place"], x)
        return truncated(x, y, t) if self.truncate else y

    def operator(self, t: int, params: Params, shape: Shape) -> Operator:
        if not self.linear:
            return DegradedBy(self, t, params, shape)
        place = params["place"]
        like = torch.empty(1, 1, *shape[1:], dtype=torch.float64, device=place.device)
        return Diagonal(
            self.masks(torch.full((len(place),), t, device=place.device), place, like),
            channels=shape[0],
            description=self.description,
        )

    def _table(self, height: int, width: int) -> DeviceTable:
        """prod_{i < t} z_i for t = 0..T by the distance from the centre, [T + 1, 2 height + 1, 2 width + 1]: any window
        of it is a mask.
        """
        if (height, width) not in self._tables:
            y = torch.arange(-height, height + 1, dtype=torch.float64).square()
            x = torch.arange(-width, width + 1, dtype=torch.float64).square()
            mask = torch.ones(self.severities + 1, 2 * height + 1, 2 * width + 1, dtype=torch.float64)
            for i in range(self.severities):
                std = self.kernel_std * (i + self.start)
                mask[i + 1] = mask[i] * -torch.expm1(-(y[:, None] + x) / (2 * std * std))
            self._tables[height, width] = DeviceTable(mask)
        return self._tables[height, width]


class CoveringMask(SeverityFamily):
    """D(x, t) = (1 - M_t) x + M_t c: a constant colour c covers the image from the border inwards until nothing is
    left; for generation.

    M_T = 1 and M_t = prod_{i <= T - 1 - t} z_i for 1 <= t < T (M_0 = 0), z_i = 1 - G_i / max G_i with the standard
    deviation kernel_std (i + 1) pixels, at the centre: with the same steps as :class:`GaussianMask`, reversed. The
    colour is drawn once per image, each channel from U(-0.5, 0.5). The smallest M_1 is not zero everywhere: D(x, 1)
    still has a trace of c. Bansal et al. 2022, generation from masks: 750 steps, kernel_std 0.05.

    Args:
        steps: T, the number of severities (default 750, as published).
        kernel_std: pixels by which the open middle shrinks with each step (default 0.05, as published).
    """

    linear = False  # affine

    def __init__(self, *, steps: int = 750, kernel_std: float = 0.05) -> None:
        check_steps("steps", steps)
        if not kernel_std > 0:
            raise UserError(f"kernel_std must be positive, got {kernel_std}")
        self.severities, self.kernel_std = steps, float(kernel_std)
        self.description = f"covering mask, {steps} steps of std {kernel_std:.4g}..{kernel_std * steps:.4g}"
        self._tables: dict[tuple[int, int], DeviceTable] = {}

    def check(self, shape: Shape) -> None:
        if min(shape[1:]) < 2:
            raise UserError(f"a mask needs images of at least 2x2 pixels, got {shape[1]}x{shape[2]}")

    def sample(self, count: int, shape: Shape, generator: torch.Generator) -> Params:
        """colour: [count, C, 1, 1] in [-0.5, 0.5)."""
        return {"colour": torch.rand(count, shape[0], 1, 1, generator=generator, device=generator.device) - 0.5}

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        cover = self._table(*x.shape[2:]).like(x)[t][:, None]
        return torch.lerp(x, params["colour"].to(x).expand_as(x), cover)

    def operator(self, t: int, params: Params, shape: Shape) -> DegradedBy:
        return DegradedBy(self, t, params, shape)

    def _table(self, height: int, width: int) -> DeviceTable:
        if (height, width) not in self._tables:
            y = (torch.arange(height, dtype=torch.float64) - ((height - 1) // 2)).square()
            x = (torch.arange(width, dtype=torch.float64) - ((width - 1) // 2)).square()
            cover = torch.ones(self.severities + 1, height, width, dtype=torch.float64)
            for t in range(self.severities - 1, 0, -1):  # one more bump at each severity less
                std = self.kernel_std * (self.severities - t)
                cover[t] = cover[t + 1] * -torch.expm1(-(y[:, None] + x) / (2 * std * std))
            cover[0] = 0
            self._tables[height, width] = DeviceTable(cover)
        return self._tables[height, width]
