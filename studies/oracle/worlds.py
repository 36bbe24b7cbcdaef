"""Small worlds in which the posterior is a formula: a prior, a degradation, a few measurements of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.circular_blur import CircularGaussianBlur
from degradations.identity import Identity
from degradations.linear import as_matrix
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from diffusion.closed_form import ClosedForm, GaussianDenoiser, MixtureDenoiser
from diffusion.denoiser import expand
from diffusion.exact_posterior import ExactPosterior, exact_posterior
from diffusion.flow import FlowDenoiser, UniformTimes

SIDE = 8
SHAPE = (1, SIDE, SIDE)
IMAGES = 4
#: The standard deviation of a pixel of the Gaussian prior, about that of pictures in [-1, 1].
DEVIATION = 0.4
REACH = 3.0  # pixels over which correlation falls to 1 / e
#: A component that the operator passes on with this fraction of its size is seen, another is not.
SEEN = 0.2
PRIORS = ("gaussian", "mixture")


@dataclass(frozen=True)
class Task:
    """A degradation with the level of its noise, in [-1, 1] units, and what a person calls it."""

    words: str
    make: Callable[[], Operator]
    sigma: float


TASKS: dict[str, Task] = {
    "half": Task("the left half seen, noise 0.1", lambda: left_half(), 0.1),
    "clean half": Task("the left half seen, no noise", lambda: left_half(), 0.0),
    "blur": Task(
        "circular Gaussian blur of 0.8 pixels, noise 0.1",
        lambda: CircularGaussianBlur(std=0.8).operator_for(SHAPE, [0], RandomStreams(0)),
        0.1,
    ),
    "denoising": Task(
        "every pixel seen, noise 0.6", lambda: Identity().operator_for(SHAPE, [0], RandomStreams(0)), 0.6
    ),
}


def left_half() -> Mask:
    mask = torch.zeros(SIDE, SIDE)
    mask[:, : SIDE // 2] = 1
    return Mask(mask, channels=1, description="the left half")


@dataclass(frozen=True)
class World:
    """Measurements of images from a prior, and their posterior.

    Args:
        prior: exact for its data.
        measurement: of IMAGES images in float64.
        basis: V of A = U S V^T as a matrix [D, D]: pixels for a mask, frequencies for a blur.
        seen: which components A passes on, bool [D].
        posterior: of V^T x.
    """

    prior: ClosedForm
    measurement: Measurement
    basis: Tensor
    seen: Tensor
    posterior: ExactPosterior

    def residual(self) -> float:
        """The root mean square of y - A x over measured values that exact samples have, over sigma; of sigma 0: 0."""
        sigma = self.measurement.sigma
        if sigma == 0:
            return 0.0
        a = as_matrix(self.measurement.operator)
        a = a[a.abs().sum(1) > 0] @ self.basis
        y = self.measurement.y.flatten(1)[:, as_matrix(self.measurement.operator).abs().sum(1) > 0]
        off = (y - self.posterior.mean @ a.T).square().sum(1)
        spread = torch.einsum("md,bde,me->b", a, self.posterior.covariance, a)
        return math.sqrt(float((off + spread).mean()) / len(a)) / sigma


def covariance(deviation: float) -> Tensor:
    """deviation^2 exp(-distance / REACH) between pixels, [D, D]."""
    place = torch.cartesian_prod(*[torch.arange(SIDE, dtype=torch.float64)] * 2)
    return deviation**2 * torch.exp(-torch.cdist(place, place) / REACH)


@cache
def prior_named(name: str) -> ClosedForm:
    """gaussian: mean 0. mixture: two components whose right halves are dark or bright, at which left halves hint."""
    if name == "gaussian":
        return GaussianDenoiser(mean=0.0, covariance=covariance(DEVIATION), data_shape=SHAPE)
    rise = torch.sigmoid(1.5 * (torch.arange(SIDE, dtype=torch.float64) - 4.5)).expand(SIDE, SIDE).flatten()
    return MixtureDenoiser(
        weights=[0.5, 0.5],
        means=[-0.6 * rise, 0.6 * rise],
        covariances=[covariance(0.25)] * 2,
        data_shape=SHAPE,
    )


@cache
def world(prior: str, task: str, seed: int = 0) -> World:
    """IMAGES images drawn from the prior by this seed, and their measurements."""
    known, what = prior_named(prior), TASKS[task]
    operator, generator = what.make(), torch.Generator().manual_seed(seed)
    everything = torch.zeros(1, SIDE * SIDE, dtype=torch.float64)
    # The posterior of a measurement that says nothing is the prior.
    truth = exact_posterior(known, everything + 1e-9, everything[:, :1], 1.0).draw(IMAGES, generator)[0]
    truth = truth.view(IMAGES, *SHAPE)
    noise = torch.randn(IMAGES, *operator.output_shape, generator=generator, dtype=torch.float64)
    y = operator(truth) + what.sigma * (noise if operator.mask is None else noise * operator.mask)
    svd = operator.svd
    assert svd is not None  # every task has one
    basis = svd.vt(torch.eye(SIDE * SIDE, dtype=torch.float64).view(-1, *SHAPE)).double()
    return World(
        prior=known,
        measurement=Measurement(
            y=y, operator=operator, noise=GaussianNoise(sigma=what.sigma), index=tuple(range(IMAGES))
        ),
        basis=basis,
        seen=svd.singular_values.flatten() > SEEN,
        posterior=exact_posterior(known, as_matrix(operator), y.flatten(1), what.sigma).turned(basis),
    )


class ExactVelocity(nn.Module):
    """v(x_t, 1000 t) = eps - x0 of an exact denoiser asked at x_t / (1 - t) and sigma = t / (1 - t): what a network
    trained by flow matching on its data would be. `time`: [B], or [B, 1, H, W] for a map.
    """

    takes_maps = True

    def __init__(self, exact: ClosedForm) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        t = time.double() / 1000
        shown = expand(1 - t, x)
        found = self.exact.predict(x.double() / shown, t / (1 - t))
        return found.eps - found.x0


class FlowPrior(FlowDenoiser):
    """The exact prior as a flow.

    Args:
        exact: the same data.
        own_times: False: the levels that a method walks are those of `exact`, so that nothing but the form of the
            prior differs; True: those of a flow, even in t.
    """

    def __init__(self, exact: ClosedForm, *, own_times: bool) -> None:
        ends = (s / (1 + s) for s in (exact.sigma_min, exact.sigma_max))
        super().__init__(
            network=ExactVelocity(exact),
            levels=UniformTimes(**dict(zip(("t_min", "t_max"), ends, strict=True))),
            data_shape=exact.data_shape,
        )
        self._exact = None if own_times else exact

    def level_at(self, time):
        return super().level_at(time) if self._exact is None else self._exact.level_at(time)
