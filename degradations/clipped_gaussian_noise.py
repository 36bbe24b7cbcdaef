"""Gaussian noise in a picture that was saved: clipped to white and black, and rounded."""

from torch import Tensor

from common.image_range import sigma_from
from common.random_streams import RandomStreams
from degradations.unit_noise import UnitNoise


class ClippedGaussianNoise(UnitNoise):
    """v = round(255 clip(u + s n, 0, 1)) / 255, n ~ N(0, 1): what a published noisy PNG holds. The same n as
    GaussianNoise has.

    Give exactly one of sigma ([-1, 1] units), sigma_255 (0..255 units), sigma_unit (s, [0, 1] units). Published levels
    low/medium/high are sigma_unit 0.12/0.18/0.26 (Wang et al. 2021, 2112.06074). `sigma` is that before clipping.
    Raises ValueError where none or several are given or the level is negative.
    """

    clip = True

    def __init__(
        self, *, sigma: float | None = None, sigma_255: float | None = None, sigma_unit: float | None = None
    ) -> None:
        self.sigma = sigma_from(sigma=sigma, sigma_255=sigma_255, sigma_unit=sigma_unit)

    def draw(self, unit: Tensor, index: int, random: RandomStreams) -> Tensor:
        return unit + self.sigma / 2 * random.normal("measurement", index, 0, tuple(unit.shape)).to(unit)

    def __repr__(self) -> str:
        return f"ClippedGaussianNoise({self._and_level().removeprefix(', clip=True, ')})"
