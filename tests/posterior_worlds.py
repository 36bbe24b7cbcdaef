"""Gaussian worlds in which the posterior of an image is known, how far samples are from it, and two leaves on the loop
of posterior samplers: one exact, one as short as a leaf can be.
"""

import math
from dataclasses import dataclass

import torch
from restoration_worlds import OneStream
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.base import Degradation, Operator
from degradations.identity import Identity
from degradations.linear import as_matrix
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from diffusion.closed_form import GaussianDenoiser
from diffusion.exact_posterior import exact_posterior
from restoration.base import Bias, Method
from restoration.posterior import PosteriorSampler

SHAPE = (1, 2, 2)
PIXELS = math.prod(SHAPE)
STEPS = 200
SAMPLES = 4000
#: Data of variance 1, neighbours correlated by 0.7, diagonal ones by 0.5.
MEAN = 0.2
COVARIANCE = torch.tensor(
    [[1.0, 0.7, 0.7, 0.5], [0.7, 1.0, 0.5, 0.7], [0.7, 0.5, 1.0, 0.7], [0.5, 0.7, 0.7, 1.0]], dtype=torch.float64
)


def gaussian_prior() -> GaussianDenoiser:
    return GaussianDenoiser(mean=MEAN, covariance=COVARIANCE, data_shape=SHAPE)


@dataclass(frozen=True)
class World:
    """A measurement of one image in float64, and its posterior N(mean, covariance)."""

    measurement: Measurement
    mean: Tensor
    covariance: Tensor


def world(operator: Operator, sigma: float) -> World:
    """y = A x + n of a fixed x, and its posterior."""
    x = torch.tensor([1.3, -0.4, 0.6, 0.1], dtype=torch.float64).view(1, *SHAPE)
    noise = RandomStreams(11).normal("world", 0, 0, operator.output_shape).double()[None]
    y = operator(x) + sigma * (noise if operator.mask is None else noise * operator.mask)
    exact = exact_posterior(gaussian_prior(), as_matrix(operator), y.flatten(1), sigma)
    return World(
        Measurement(y=y, operator=operator, noise=GaussianNoise(sigma=sigma), index=(0,)),
        mean=exact.mean[0],
        covariance=exact.covariance[0],
    )


def bound(degradation: Degradation) -> Operator:
    return degradation.operator_for(SHAPE, [0], RandomStreams(0))


WORLDS = {
    "identity": lambda: world(bound(Identity()), 0.5),
    "mask": lambda: world(Mask(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), channels=1), 0.2),
    "average_pool": lambda: world(bound(AveragePool(factor=2)), 0.2),
}


@dataclass(frozen=True)
class Moments:
    """In units of the posterior: mean |C^(-1/2) (E x - m)|; deviation: the least and the largest standard deviation of
    C^(-1/2) x in any direction, 1 and 1 for exact samples.
    """

    mean: float
    deviation: tuple[float, float]

    def within(self, bias: Bias) -> bool:
        low, high = bias.deviation
        return self.mean <= bias.mean and low <= self.deviation[0] and self.deviation[1] <= high


def moments(method: Method, world: World, *, samples: int = SAMPLES) -> Moments:
    """Of this many samples, from one generator, which is quicker than a stream for each."""
    x = method.restore(world.measurement, num_samples=samples, random=OneStream(5)).samples[0].flatten(1)
    factor = torch.linalg.cholesky(world.covariance)
    white = torch.linalg.solve_triangular(factor, (x.double() - world.mean).T, upper=False)
    variances = torch.linalg.eigvalsh(white.cov()).clamp(min=0)
    return Moments(float(white.mean(1).norm()), (float(variances[0]) ** 0.5, float(variances[-1]) ** 0.5))


class MaskDDNM(PosteriorSampler):
    """x0' = x0 + A^T (y - A x0), x' = x0' + sigma' z: DDNM for masks. Wang et al. 2022 (2212.00490)."""

    needs = frozenset({"mask"})
    bias = Bias("measured pixels keep the noise of y", mean=0.5, deviation=(0.0, 1.1))

    def step(self, problem, prepared, predict, x, sigma, sigma_next, noise):
        x0 = predict(x, sigma).x0
        x0 = x0 + problem.operator.adjoint(problem.y - problem.operator(x0))
        return x0 + sigma_next * noise.next().to(x), x0


class ExactOnGaussians(PosteriorSampler):
    """The ancestral step with E[x0 | x, y] in closed form: x0 + V A^T (A V A^T + sigma_y^2)^-1 (y - A x0), V = Cov[x0 |
    x] = (S^-1 + sigma^-2)^-1.
    """

    needs = frozenset({"linear", "white_noise"})

    def begin(self, problem):
        return as_matrix(problem.measurement.operator)

    def step(self, problem, prepared, predict, x, sigma, sigma_next, noise):
        x0, a = predict(x, sigma).x0, prepared.to(x)
        v = torch.linalg.inv(torch.linalg.inv(COVARIANCE) + torch.eye(PIXELS).double() / sigma**2).to(x)
        inner = a @ v @ a.T + problem.sigma**2 * torch.eye(len(a)).to(x)
        difference = (problem.y - problem.operator(x0)).flatten(1)
        x0 = x0 + (difference @ torch.linalg.solve(inner, a @ v)).view_as(x)
        kept = (sigma_next / sigma) ** 2
        fresh = sigma_next * math.sqrt(1 - kept)
        return x0 + kept * (x - x0) + fresh * noise.next().to(x), x0
