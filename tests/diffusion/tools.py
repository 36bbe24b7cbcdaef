"""Small worlds in which the truth about a sampler is a formula."""

import torch
from torch import Tensor, nn

from diffusion.closed_form import GaussianDenoiser
from diffusion.denoiser import DiscreteDenoiser
from diffusion.samplers.base import Sampler
from diffusion.schedules import Linear, Schedule

MEAN = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.3, 0.1, 0.0], [0.1, 0.2, 0.05], [0.0, 0.05, 0.02]], dtype=torch.float64)
SHAPE = (1, 1, 3)


def gaussian(schedule: Schedule | None = None) -> GaussianDenoiser:
    return GaussianDenoiser(mean=MEAN, covariance=COVARIANCE, data_shape=SHAPE, schedule=schedule)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class OptimalNetwork(nn.Module):
    """The output (eps, x0 or v) that a perfectly trained network has for the Gaussian: f(a x, t, label)."""

    def __init__(self, schedule: Schedule, prediction: str) -> None:
        super().__init__()
        self.schedule, self.prediction, self.exact = schedule, prediction, gaussian(schedule)

    def forward(self, x_vp: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        sigma = self.schedule.sigma_of(time)
        a = torch.rsqrt(1 + sigma.square()).view(-1, 1, 1, 1)
        b = a * sigma.view(-1, 1, 1, 1)
        p = self.exact.predict(x_vp / a, sigma)
        return {"epsilon": p.eps, "x0": p.x0, "v": a * p.eps - b * p.x0}[self.prediction].to(x_vp.dtype)


def optimal(prediction: str, schedule: Schedule | None = None) -> DiscreteDenoiser:
    schedule = schedule or Linear()
    return DiscreteDenoiser(
        network=OptimalNetwork(schedule, prediction), schedule=schedule, prediction=prediction, data_shape=SHAPE
    )


class Scripted:
    """Stands in for a NoiseSequence: gives the batches of a list, one after the other."""

    def __init__(self, batches: list[Tensor]) -> None:
        self.batches = iter(batches)

    def next(self) -> Tensor:
        return next(self.batches)


class UnitNoise:
    """Batch k is zero but for the rows 1 + D (k + 1) .. D (k + 2), which hold the unit vectors: what each single noise
    does to the result.
    """

    def __init__(self, rows: int, dimension: int) -> None:
        self.rows, self.dimension, self.step = rows, dimension, 0

    def next(self) -> Tensor:
        noise = torch.zeros(self.rows, self.dimension, dtype=torch.float64)
        self.step += 1
        first = 1 + self.dimension * self.step
        noise[first : first + self.dimension] = torch.eye(self.dimension, dtype=torch.float64)
        return noise.view(-1, 1, 1, self.dimension)


def output_moments(sampler: Sampler, denoiser: GaussianDenoiser, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Exact mean [D] and covariance [D, D] of what a sampler draws from pure noise, without a single random number.

    With Gaussian data every step is affine in x and in its noise, so the result is b + sum_i C_i z_i: row 0 of the
    batch finds b, the others the columns of C.
    """
    dimension = denoiser.data.mean.numel()
    rows = 1 + dimension * (len(levels) if sampler.stochastic else 1)
    start = torch.zeros(rows, dimension, dtype=torch.float64)
    start[1 : 1 + dimension] = float(levels[0]) * torch.eye(dimension, dtype=torch.float64)
    noise = UnitNoise(rows, dimension) if sampler.stochastic else None
    out = sampler.sample(denoiser, start.view(-1, 1, 1, dimension), levels, noise=noise, clip=False).flatten(1)
    columns = out[1:] - out[0]
    return out[0], columns.T @ columns
