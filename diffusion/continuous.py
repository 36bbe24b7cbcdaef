"""What training in continuous time has in common: times drawn from a distribution, in place of a table of levels."""

from abc import abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn

from common.shapes import image_shape
from common.tensor_shapes import AnyLevels, AnyTimes
from diffusion.denoiser import NetworkDenoiser
from diffusion.schedules import TrainingLevels


class ContinuousLevels(TrainingLevels):
    """A distribution of training times, given by its quantiles.

    sigma_min, sigma_max: the lowest and the highest level that it draws, both finite.
    """

    sigma_min: float
    sigma_max: float

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """The training time, float64, below which a share u in [0, 1] of the training times lies."""


class ContinuousDenoiser(NetworkDenoiser):
    """A network that is trained at any time of a distribution.

    Its `num_timesteps` are a thousand, so that all spacings of levels have a meaning; which levels they are is a leaf's
    to say. A leaf also says what its training times are, and how the network is asked.

    Args:
        network: called as network(input, clock [B], label), gives C channels.
        levels: the distribution of training times.
        data_shape: (C, H, W).
    """

    num_timesteps = 1000

    def __init__(self, *, network: nn.Module, levels: ContinuousLevels, data_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network, self.levels, self.data_shape = network, levels, image_shape(data_shape)
        self.sigma_min, self.sigma_max = levels.sigma_min, levels.sigma_max

    @abstractmethod
    def _level_at_share(self, share: Tensor) -> Tensor:
        """The level sigma, float64, at a share in [0, 1] of the way from the lowest to the highest."""

    def level_at(self, time: AnyTimes) -> AnyLevels:
        if time.numel() and not 0 <= float(time.min()) <= float(time.max()) <= self.num_timesteps - 1:
            raise ValueError(
                f"time must lie in 0 .. {self.num_timesteps - 1}, got {float(time.min()):.6g} .."
                f" {float(time.max()):.6g}"
            )
        return self._level_at_share(time.double() / (self.num_timesteps - 1))

    def training_time(self, u: Tensor) -> Tensor:
        """The quantile u of the training times, float64."""
        return self.levels.quantile(u)

    def bins(self, count: int) -> list[str]:
        """ "q000-199": thousandths of the training times, counted from the least noise."""
        edges = [k * 1000 // count for k in range(count + 1)]
        return [f"q{a:03d}-{b - 1:03d}" for a, b in pairwise(edges)]

    def bin_of(self, time: Tensor, count: int) -> Tensor:
        inner = torch.arange(1, count, dtype=torch.float64, device=time.device) / count
        return torch.bucketize(time.double(), self.levels.quantile(inner), right=True)
