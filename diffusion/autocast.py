"""The network in bfloat16, everything else in float32."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from common.compute import warn_of_slow_bfloat16
from common.tensor_shapes import AnyLevels, AnyTimes, Images, Sigma
from diffusion.denoiser import Condition, Denoiser, Prediction


class AutocastNetwork(nn.Module):
    """The same network with convolutions and matrix products in bfloat16; its output is float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def takes_maps(self) -> bool:
        return getattr(self.network, "takes_maps", False)

    @property
    def any_size(self) -> bool:
        return getattr(self.network, "any_size", False)

    def forward(self, x: Tensor, *rest: Tensor | None) -> Tensor:
        warn_of_slow_bfloat16(x.device.type)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.network(x, *rest).float()


class Autocast(Denoiser):
    """The same denoiser with convolutions and matrix products in bfloat16; inputs, outputs and the arithmetic around it
    stay float32.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.data_shape = denoiser.data_shape
        self.sigma_min, self.sigma_max, self.num_timesteps = (
            denoiser.sigma_min,
            denoiser.sigma_max,
            denoiser.num_timesteps,
        )
        self.learns_variance, self.takes_image = denoiser.learns_variance, denoiser.takes_image
        self.takes_maps, self.any_size = denoiser.takes_maps, denoiser.any_size
        self.reach, self.multiple, self.blind = denoiser.reach, denoiser.multiple, denoiser.blind

    def level_at(self, time: AnyTimes) -> AnyLevels:
        return self.denoiser.level_at(time)

    def refused(self, least: float, most: float) -> str | None:
        return self.denoiser.refused(least, most)

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        warn_of_slow_bfloat16(x.device.type)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            found = self.denoiser.predict(x, sigma, condition)
        return replace(found, **{name: value.to(x.dtype) for name, value in vars(found).items() if value is not None})
