"""Noise whose law is written for intensities in [0, 1]: shot, impulse and speckle noise, and whatever a
camera clips.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from common.image_range import sigma_to_255, to_float, to_uint8
from common.random_streams import RandomStreams
from common.tensor_shapes import Images, PerImage
from degradations.likelihood import check_index, check_misfit, sum_measured
from degradations.noise import Noise


class UnitNoise(Noise):
    """y = 2 v - 1 with v drawn given u = (A x + 1) / 2, value by value; `clip` stores v as a camera does: in [0, 1],
    rounded to one of 256 levels.

    `sigma` is nominal: the rms of v - u at mid grey, u = 1/2, times 2, before clipping. The noise of other grey levels
    is stronger or weaker, and what is clipped is weaker near black and white: `rms` and `variance` say how much, read
    off y.
    """

    clip: bool

    @abstractmethod
    def draw(self, unit: Tensor, index: int, random: RandomStreams) -> Tensor:
        """v for one image u [...] in [0, 1], beyond it where A x leaves [-1, 1]; same shape, dtype and device."""

    @abstractmethod
    def nats(self, v: Tensor, unit: Tensor) -> Tensor:
        """-log p(v | u) of every value up to a constant that depends on v alone, in float64, differentiable in u; of
        the grey level next to v where `clip` is set.
        """

    def misfit(self, y: Images, clean: Images, mask: Tensor | None = None) -> PerImage:
        check_misfit(y, clean, self.sigma)
        nats = self.nats((y.double() + 1) / 2, (clean.double() + 1) / 2)
        return sum_measured(nats, mask).to(clean.dtype)

    def add(self, clean: Images, index: Sequence[int], random: RandomStreams) -> Images:
        check_index(clean, index)
        drawn = torch.stack([self.draw((image + 1) / 2, int(i), random) for image, i in zip(clean, index, strict=True)])
        noisy = 2 * drawn.to(clean) - 1
        return to_float(to_uint8(noisy)).to(clean) if self.clip else noisy

    @staticmethod
    def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
        """The mean over measured values, float64 [B]."""
        if mask is None:
            return values.double().flatten(1).mean(1)
        weight = mask.to(values).expand_as(values)
        return (values * weight).double().flatten(1).sum(1) / weight.double().flatten(1).sum(1).clamp(min=1)

    def _and_level(self) -> str:
        clipped = ", clip=True" if self.clip else ""
        return f"{clipped}, sigma={self.sigma:g}, sigma_255={sigma_to_255(self.sigma):g}"
