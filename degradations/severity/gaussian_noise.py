"""Gaussian noise as a family of severities: hot diffusion in the frame of cold diffusion."""

import torch
from torch import Tensor

from degradations.base import Params, Shape
from degradations.scaled import Scaled
from degradations.severity.alpha_bar import cosine_alpha_bar
from degradations.severity.base import DeviceTable, SeverityFamily, check_steps


class GaussianNoiseFamily(SeverityFamily):
    """D(x, t) = sqrt(ab_t) x + sqrt(1 - ab_t) z, z standard normal, drawn once per image; ab_0 = 1, ab_t the entry t -
    1 of the cosine schedule of T steps.

    As an operator it is the scaled identity sqrt(ab_t) I: noise is never hidden in an operator, and a task adds
    sigma_at(t). Bansal et al. 2022 (2208.09392), hot baseline; Nichol and Dhariwal 2021 (2102.09672) for the schedule.

    Args:
        steps: T, 200 in the paper.
    """

    def __init__(self, *, steps: int = 200) -> None:
        check_steps("steps", steps)
        self.severities = steps
        self._alpha_bar = DeviceTable(torch.cat([torch.ones(1, dtype=torch.float64), cosine_alpha_bar(steps)]))
        self._scale = DeviceTable(self._alpha_bar.values.sqrt())
        self._sigma = DeviceTable((1 - self._alpha_bar.values).sqrt())
        self.description = f"Gaussian noise (cosine), {steps} steps"

    def check(self, shape: Shape) -> None:
        """Images of every shape."""

    def scale_at(self, t: int) -> float:
        """sqrt(ab_t), what is left of the image."""
        return float(self._scale.values[t])

    def sigma_at(self, t: int) -> float:
        """sqrt(1 - ab_t), the standard deviation of the noise in [-1, 1] units."""
        return float(self._sigma.values[t])

    def sample(self, count: int, shape: Shape, generator: torch.Generator) -> Params:
        """noise: standard normal [count, C, H, W]."""
        return {"noise": torch.randn(count, *shape, generator=generator, device=generator.device)}

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        scale, sigma = (table.like(x)[t].view(-1, 1, 1, 1) for table in (self._scale, self._sigma))
        return scale * x + sigma * params["noise"].to(x)

    def noise_of(self, x_t: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """(x_t - sqrt(ab_t) x0) / sqrt(1 - ab_t), the noise that x_t and x0 imply at severities t [B] of at least 1."""
        scale, sigma = (table.like(x_t)[t].view(-1, 1, 1, 1) for table in (self._scale, self._sigma))
        return (x_t - scale * x0) / sigma

    def operator(self, t: int, params: Params, shape: Shape) -> Scaled:
        del params
        return Scaled(self.scale_at(t), shape, description=self.description)
