"""Measurement noise as an object that knows its level: y = A x + n."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from common.image_range import sigma_from, sigma_to_255
from common.random_streams import RandomStreams
from common.tensor_shapes import Images, PerImage
from degradations.likelihood import check_index, check_misfit, sum_measured


class Noise(ABC):
    """Noise that is added to A x; `sigma` is its standard deviation in [-1, 1] units, nominal where it depends on the
    image.
    """

    sigma: float

    @property
    def is_white(self) -> bool:
        """Whether n is added, independent of the image and from value to value, and of one standard deviation, sigma,
        everywhere: what a method assumes that takes nothing but sigma. False unless a law says so.
        """
        return False

    @abstractmethod
    def misfit(self, y: Images, clean: Images, mask: Tensor | None = None) -> PerImage:
        """-log p(y | A x) of each image in nats, up to a constant that depends on y alone: [B], in the dtype of clean.

        Of the law that :meth:`add` draws, clipping and rounding included. The sum over values, computed in float64;
        differentiable in clean = A x. y, clean [B, ...]. mask: 1 where a value was measured, broadcasts to y; without
        it a missing value, 0 in both, adds a constant. ValueError for other shapes, and where sigma is 0: without noise
        there is no likelihood.
        """

    @property
    def reach(self) -> float:
        """How far a value of y may lie beyond the range of A x before it is warned about: 6 sigma unless a leaf has
        another law.
        """
        return 6 * self.sigma

    def rms(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """The root mean square of the noise in measurements y [B, ...], as its own law says it, over measured values:
        float64 [B] in [-1, 1] units.

        sigma, unless it depends on the image, which is then read off y: E y is the image. mask: 1 where a value was
        measured, broadcasts to y.
        """
        del mask
        return torch.full((len(y),), self.sigma, dtype=torch.float64, device=y.device)

    def variance(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """The variance of the noise of every value of y, like y, in [-1, 1]^2 units: rms^2, unless it depends on the
        image, which is then read off y.
        """
        return self.rms(y, mask).square().to(y).view(-1, *[1] * (y.ndim - 1)).expand_as(y)

    @abstractmethod
    def add(self, clean: Images, index: Sequence[int], random: RandomStreams) -> Images:
        """The noisy measurement of `clean` = A x [B, ...]; a function of (seed, image index) only."""


class GaussianNoise(Noise):
    """n ~ N(0, sigma^2 I): white noise. Exactly one of the three options is given.

    Args:
        sigma: standard deviation in [-1, 1] units, at least 0, which is no noise.
        sigma_255: the same in 0..255 units (sigma = sigma_255 / 127.5).
        sigma_unit: the same in [0, 1] units (sigma = 2 sigma_unit).

    Raises:
        ValueError: where none or several are given, or the level is negative or not finite.
    """

    def __init__(
        self, *, sigma: float | None = None, sigma_255: float | None = None, sigma_unit: float | None = None
    ) -> None:
        self.sigma = sigma_from(sigma=sigma, sigma_255=sigma_255, sigma_unit=sigma_unit)

    @property
    def is_white(self) -> bool:
        return True

    def misfit(self, y: Images, clean: Images, mask: Tensor | None = None) -> PerImage:
        """|y - A x|^2 / (2 sigma^2)."""
        check_misfit(y, clean, self.sigma)
        square = (y.double() - clean.double()).square()
        return (sum_measured(square, mask) / (2 * self.sigma**2)).to(clean.dtype)

    def add(self, clean: Images, index: Sequence[int], random: RandomStreams) -> Images:
        check_index(clean, index)
        if self.sigma == 0:
            return clean
        noise = random.normal_batch("measurement", index, [0] * len(index), clean.shape[1:], clean.device)
        return clean + self.sigma * noise.to(clean.dtype)

    def __repr__(self) -> str:
        return f"GaussianNoise(sigma={self.sigma:g}, sigma_255={sigma_to_255(self.sigma):g})"
