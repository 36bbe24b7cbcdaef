"""Snow that falls ever more densely: a degradation that is neither linear nor a scale space (ImageNet-C's corruption,
by severity).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from degradations.base import Params, Shape
from degradations.severity.base import DegradedBy, DeviceTable, SeverityFamily, check_steps


@dataclass(frozen=True)
class Level:
    """Mean and standard deviation of the noise, its enlargement, taps of the motion blur; (first, last) of threshold,
    blur and brightness over the steps.
    """

    mean: float
    std: float
    zoom: float
    taps: int
    threshold: tuple[float, float]
    blur: tuple[float, float]
    brightness: tuple[float, float]


LEVELS = {
    1: Level(0.10, 0.3, 3.0, 5, (0.7, 0.3), (0.5, 5.0), (0.95, 0.7)),
    2: Level(0.55, 0.3, 2.5, 11, (1.15, 0.7), (0.05, 12.0), (0.95, 0.55)),
    3: Level(0.55, 0.3, 2.5, 11, (1.15, 0.7), (0.05, 16.0), (0.95, 0.4)),
    4: Level(0.55, 0.3, 2.5, 11, (1.15, 0.55), (0.05, 20.0), (0.95, 0.3)),
}
_DATA = {"cifar10": 3, "celeba_64": 4, "celeba": 4}
_LUMA = (0.299, 0.587, 0.114)


class Snow(SeverityFamily):
    """D(x, t) = clip(x + L_t + rot180(L_t)) in [0, 1], L_t = blur_t(clip(N where N >= threshold_t else 0)): computed
    from x, not from D(x, t - 1).

    N: one layer of normal noise per image, enlarged by `zoom`; blur_t: a Gaussian along rows or along columns, with
    probability 1/2 each. Both are drawn once per image. By default the released code shares one layer within a
    batch, so that a batch teaches about one snow only and an image's degradation depends on its neighbours; its
    option of a layer per image draws the direction anew at every t, so that D is not one path. Neither is offered.
    Threshold, blur and brightness run linearly over the steps t = 1..T.

    Hendrycks and Dietterich 2019 (1903.12261) for the corruption; Bansal et al. 2022 (2208.09392) for the severities.

    Args:
        data: "cifar10" level 3, "celeba" (128 pixels) and "celeba_64" level 4 (lengths in pixels are kept), 200 steps
            each; level and steps replace them.
        level: 1 (light) to 5 of Hendrycks and Dietterich; null: that of `data`.
        steps: T, the number of severities; null: that of `data`.
        brightness: let the image fade to a bright grey too, max(x, 1.5 grey + 0.5) with a growing weight; the released
            commands switch it off.

    Raises:
        UserError: images smaller than the taps of the blur.
    """

    linear = False

    def __init__(
        self,
        *,
        data: Literal["cifar10", "celeba_64", "celeba"] = "cifar10",
        level: int | None = None,
        steps: int | None = None,
        brightness: bool = False,
    ) -> None:
        if data not in _DATA:
            raise UserError(f"data must be one of {', '.join(_DATA)}, got '{data}'")
        self.level = _DATA[data] if level is None else level
        self.severities = 200 if steps is None else steps
        self.brightness = brightness
        if self.level not in LEVELS:
            raise UserError(f"level must be one of {', '.join(map(str, LEVELS))}, got {self.level}")
        check_steps("steps", self.severities)
        self.description = f"snow of level {self.level}, {self.severities} steps"
        constants = LEVELS[self.level]
        self._threshold, self._fade = (
            DeviceTable(self._ramp(ends)) for ends in (constants.threshold, constants.brightness)
        )
        self._blurs: dict[int, DeviceTable] = {}
        self._enlargements: dict[int, DeviceTable] = {}

    def check(self, shape: Shape) -> None:
        taps = LEVELS[self.level].taps
        if min(shape[1:]) < taps:
            raise UserError(
                f"snow of level {self.level} is blurred over {taps} pixels, and the image has {shape[1]}x{shape[2]}:"
                " take larger images"
            )
        if self.brightness and shape[0] not in (1, 3):
            raise UserError(f"brightness needs grey or colour images, got {shape[0]} channels")

    def sample(self, count: int, shape: Shape, generator: torch.Generator) -> Params:
        """layer: the enlarged noise [count, 1, H, W]; vertical: [count], whether it is blurred along columns."""
        device, constants = generator.device, LEVELS[self.level]
        rows, columns = (self._enlargement(side) for side in shape[1:])
        size = (count, 1, rows.values.shape[1], columns.values.shape[1])
        noise = torch.randn(size, generator=generator, device=device) * constants.std + constants.mean
        vertical = torch.rand(count, generator=generator, device=device) < 0.5
        return {"layer": rows.like(noise) @ noise @ columns.like(noise).mT, "vertical": vertical}

    def threshold_at(self, t: int) -> float:
        """Noise below this is no snow, at t in 1..T."""
        return float(self._threshold.values[t])

    def blur_at(self, t: int) -> float:
        """Standard deviation of the motion blur in pixels, at t in 1..T."""
        return float(self._ramp(LEVELS[self.level].blur)[t])

    def snow(self, t: Tensor, params: Params, like: Tensor) -> Tensor:
        """L_t + rot180(L_t), what falls on images in [0, 1]: [B, 1, H, W] in the dtype of `like` [B, *, H, W]."""
        layer = params["layer"].to(like)
        flakes = torch.where(layer < self._threshold.like(like)[t].view(-1, 1, 1, 1), 0, layer.clamp(0, 1))
        rows, columns = (self._blur(side).like(like)[t][:, None] for side in layer.shape[2:])
        flakes = torch.where(params["vertical"].bool().view(-1, 1, 1, 1), rows @ flakes, flakes @ columns.mT)
        return flakes + flakes.flip(2, 3)

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        image = (x + 1) / 2
        if self.brightness:
            grey = (image * image.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True) if x.shape[1] == 3 else image
            keep = self._fade.like(x)[t].view(-1, 1, 1, 1)
            image = keep * image + (1 - keep) * torch.maximum(image, 1.5 * grey + 0.5)
        snowy = (image + self.snow(t, params, x)).clamp(0, 1) * 2 - 1
        return torch.where((t > 0).view(-1, 1, 1, 1), snowy, x)

    def operator(self, t: int, params: Params, shape: Shape) -> DegradedBy:
        return DegradedBy(self, t, params, shape)

    def _ramp(self, ends: tuple[float, float]) -> Tensor:
        """Values of t = 0..T; that of t = 0 is not used."""
        ramp = torch.linspace(*ends, self.severities, dtype=torch.float64)
        return torch.cat([ramp[:1], ramp])

    def _blur(self, side: int) -> DeviceTable:
        """The motion blur of one axis as matrices [T + 1, side, side]: a normalised Gaussian of so many taps, zeros
        beyond the border.
        """
        if side not in self._blurs:
            constants = LEVELS[self.level]
            offsets = torch.arange(side)[:, None] - torch.arange(side)
            std = self._ramp(constants.blur).view(-1, 1, 1)
            taps = torch.arange(constants.taps, dtype=torch.float64) - constants.taps // 2
            total = torch.exp(-taps.square() / (2 * std * std)).sum(2, keepdim=True)
            weights = torch.exp(-offsets.double().square() / (2 * std * std)) / total
            self._blurs[side] = DeviceTable(torch.where(offsets.abs() <= constants.taps // 2, weights, 0))
        return self._blurs[side]

    def _enlargement(self, side: int) -> DeviceTable:
        """The middle ceil(side / zoom) points of an axis, enlarged by linear interpolation from end to end and cut to
        `side`: a matrix [side, points].
        """
        if side not in self._enlargements:
            zoom = LEVELS[self.level].zoom
            points = math.ceil(side / zoom)
            large = max(side, round(points * zoom))
            unit = torch.eye(points, dtype=torch.float64)[None]
            grown = (
                F.interpolate(unit, size=large, mode="linear", align_corners=True)[0].mT
                if points > 1
                else unit[0].expand(large, 1)
            )
            first = (large - side) // 2
            self._enlargements[side] = DeviceTable(grown[first : first + side].contiguous())
        return self._enlargements[side]
