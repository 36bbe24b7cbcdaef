"""The restorer: what cold diffusion trains. Its clock is a whole number of a degradation family, never a
made-up sigma.
"""

import torch
from torch import Tensor, nn

from common.shapes import image_shape
from common.tensor_shapes import Images
from degradations.base import Shape
from degradations.severity.base import SeverityFamily
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.bins import bin_of, even_bins
from diffusion.denoiser import Condition, DiscreteDenoiser
from diffusion.schedules import Cosine


class ColdRestorer(nn.Module):
    """R(x_t, t) -> x0 for x_t = D(x0, t) of one family.

    Args:
        network: called as network(x_t, t - 1 as a float [B], label): Bansal et al. 2022 (2208.09392) count from 0 and
            never train the identity.
        data_shape: (C, H, W).

    Raises:
        ValueError: where the network's channels are not those of the images; UserError where the family cannot degrade
            such images.
    """

    network: nn.Module

    def __init__(self, *, network: nn.Module, family: SeverityFamily, data_shape: Shape) -> None:
        super().__init__()
        family.check(image_shape(data_shape))
        for name in ("in_channels", "out_channels"):
            channels = getattr(network, name, data_shape[0])
            if channels != data_shape[0]:
                raise ValueError(
                    f"network.{name} is {channels}, and data_shape says {data_shape[0]} channels: make them equal"
                )
        self.network, self.family, self.data_shape = network, family, image_shape(data_shape)

    @property
    def severities(self) -> int:
        """T of the family."""
        return self.family.severities

    def predict(self, x: Images, severity: Tensor | int, condition: Condition | None = None) -> Images:
        """x0 [B, C, H, W], not clipped, of x [B, C, H, W] at severity int64 [B] or one number, 1..T; ValueError for
        another one.
        """
        severity = torch.full((len(x),), severity, device=x.device) if isinstance(severity, int) else severity
        if severity.shape != x.shape[:1] or severity.dtype.is_floating_point:
            raise ValueError(
                f"severity must be whole numbers [{len(x)}], got {list(severity.shape)} of {severity.dtype}"
            )
        if (
            severity.device.type == "cpu"
            and len(x)
            and not 1 <= int(severity.min()) <= int(severity.max()) <= self.severities
        ):
            raise ValueError(
                f"severity must lie in 1..{self.severities}, got {int(severity.min())}..{int(severity.max())}"
            )
        return self.network(x.float(), (severity - 1).float(), None if condition is None else condition.label).to(
            x.dtype
        )

    def as_denoiser(self) -> DiscreteDenoiser:
        """The same network asked in sigma, for the Gaussian family alone, whose severities are levels of noise;
        TypeError for any other.
        """
        if not isinstance(self.family, GaussianNoiseFamily):
            raise TypeError(f"a restorer of {self.family.description} is no denoiser: only Gaussian noise has levels")
        return DiscreteDenoiser(
            network=self.network, schedule=Cosine(steps=self.severities), prediction="x0", data_shape=self.data_shape
        )

    def bins(self, count: int) -> list[str]:
        """ "s001-010": names of `count` ranges of severities that are equally frequent in training."""
        return [f"s{first + 1:03d}-{last + 1:03d}" for first, last in even_bins(self.severities, count)]

    def bin_of(self, severity: Tensor, count: int) -> Tensor:
        """The range 0 .. count - 1 in which severities lie."""
        return bin_of(severity - 1, self.severities, count)
