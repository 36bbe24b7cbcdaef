"""DPS, DDRM and DiffPIR of deepinv as methods of this project: the same denoiser, measurements and table as ours.

    python evaluate.py --config configs/evaluate/beside_deepinv_mnist.yaml

Any class with a `restore` can stand in a table by its class path. deepinv's images lie in [0, 1]: levels there are half
of those here, and y = A x becomes (y + A 1) / 2; its random numbers are replaced by keyed ones, so that a sample does
not depend on its batch. What its algorithms do otherwise than ours is said in docs/methods.md. deepinv 0.5 is not a
dependency of the programs: pip install -r requirements-dev.txt.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import common.torchvision_remedy  # noqa: F401  # isort: skip  (before deepinv)
import deepinv
import numpy as np
import torch
from torch import Tensor, nn

from common.random_streams import NoiseSequence, RandomStreams
from degradations.measurement import Measurement
from diffusion.denoiser import Denoiser
from restoration.base import Cost, Method, OnStep, Restoration
from restoration.posterior import Problem


class AsTheirs(nn.Module):
    """D(x in [0, 1], sigma) = (x0(2 x - 1, 2 sigma) + 1) / 2: a denoiser of this project as deepinv calls one."""

    def __init__(self, prior: Denoiser) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, sigma: Tensor | float, **_: object) -> Tensor:
        level = 2 * torch.as_tensor(sigma, dtype=torch.float32, device=x.device).flatten()
        level = level.clamp(min=self.prior.sigma_min)  # DDRM's last level there is 0
        return ((self.prior.predict(2 * x.float() - 1, level.expand(len(x))).x0 + 1) / 2).to(x.dtype)


class DeepinvMethod(Method):
    """What the three share. A leaf says which model runs, and what a sample costs.

    Args:
        prior: the denoiser.
        steps: levels of a chain, at least 2.

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True
    prior: Denoiser
    needs = frozenset({"svd", "white_noise"})

    def __init__(self, *, prior: Denoiser, steps: int = 100) -> None:
        if steps < 2:
            raise ValueError(f"steps must be at least 2, got {steps}")
        self.prior, self.steps = prior, steps

    @abstractmethod
    def run(self, y: Tensor, physics: Any, sigma: float, noise: NoiseSequence) -> Tensor:
        """Of all chains: y [B, ...] and the result [B, C, H, W] in [0, 1], sigma of y in these units."""

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del on_step  # deepinv reports no steps
        self.check(measurement.operator, measurement.noise)
        problem = Problem(measurement, num_samples, random)
        operator, y = problem.operator, problem.y
        y = (y + operator(torch.ones(len(y), *problem.shape, dtype=y.dtype, device=y.device))) / 2
        svd, sigma = operator.svd, problem.sigma / 2
        assert svd is not None
        physics = deepinv.physics.DecomposablePhysics(
            U=svd.u,
            U_adjoint=svd.ut,
            V=svd.v,
            V_adjoint=svd.vt,
            mask=torch.atleast_2d(svd.singular_values).to(y),
            noise_model=deepinv.physics.GaussianNoise(sigma),
        )
        with problem.sequence(type(self).__name__.lower()) as noise, keyed(noise):
            x = 2 * self.run(y, physics, sigma, noise) - 1
        return Restoration(
            samples=x.detach().to(problem.y).unflatten(0, (-1, num_samples)), cost=self.calls(), trace={}
        )


class DeepinvDPS(DeepinvMethod):
    """deepinv.sampling.DPS: the gradient of weight |y - A x0| goes into the score of an ancestral chain.

    Args:
        prior: the denoiser.
        steps: levels of a chain, at least 2.
        weight: of the data, positive.

    Raises:
        ValueError: options out of range.
    """

    def __init__(self, *, prior: Denoiser, steps: int = 100, weight: float = 1.0) -> None:
        super().__init__(prior=prior, steps=steps)
        if weight <= 0:
            raise ValueError(f"weight must be positive, got {weight}")
        self.weight = weight

    def calls(self) -> Cost:
        return Cost(nfe=self.steps, backwards=self.steps)

    def run(self, y: Tensor, physics: Any, sigma: float, noise: NoiseSequence) -> Tensor:
        del sigma
        denoiser: Any = AsTheirs(self.prior)
        model = deepinv.sampling.DPS(denoiser, weight=self.weight, num_steps=self.steps + 1, dtype=torch.float32)
        model.solver.randn_like = lambda input, seed=None: noise.next().to(input)  # type: ignore[method-assign]
        first = model.solver.timesteps[0]
        start = model.sde.sigma_t(first) * model.sde.scale_t(first) * noise.next().to(y)
        return model(y, physics, x_init=start)


class DeepinvDDRM(DeepinvMethod):
    """deepinv.sampling.DDRM at evenly spaced levels from 1 to 0, as by default there.

    Args:
        prior: the denoiser.
        steps: levels of a chain, at least 2.
        eta: share of fresh noise, 0 .. 1.
        eta_b: how much of the measurement replaces the estimate, 0 .. 1.

    Raises:
        ValueError: options out of range.
    """

    def __init__(self, *, prior: Denoiser, steps: int = 100, eta: float = 0.85, eta_b: float = 1.0) -> None:
        super().__init__(prior=prior, steps=steps)
        if not 0 <= eta <= 1 or not 0 <= eta_b <= 1:
            raise ValueError(f"eta and eta_b must lie in 0 .. 1, got {eta} and {eta_b}")
        self.eta, self.eta_b = eta, eta_b

    def calls(self) -> Cost:
        return Cost(nfe=self.steps)

    def run(self, y: Tensor, physics: Any, sigma: float, noise: NoiseSequence) -> Tensor:
        # One row of singular values is repeated there for each row of y: here all chains are one row of y, whose values
        # are those of each chain.
        physics.mask = physics.mask.expand(len(y), -1)
        ut = physics._U_adjoint
        physics._U_adjoint = lambda rows: ut(rows[0])
        levels = [float(level) for level in np.linspace(1, 0, self.steps)]
        return deepinv.sampling.DDRM(AsTheirs(self.prior), sigmas=levels, eta=self.eta, etab=self.eta_b)(
            y[None], physics
        )


class DeepinvDiffPIR(DeepinvMethod):
    """deepinv.sampling.DiffPIR.

    Args:
        prior: the denoiser.
        steps: levels of a chain, at least 2.
        lambda_: of the proximal step, positive; 7 there is a weight of 3.5 here.
        zeta: share of fresh noise, 0 .. 1.

    Raises:
        ValueError: options out of range.
    """

    def __init__(self, *, prior: Denoiser, steps: int = 100, lambda_: float = 7.0, zeta: float = 0.1) -> None:
        super().__init__(prior=prior, steps=steps)
        if not (lambda_ > 0 and 0 <= zeta <= 1):
            raise ValueError(f"lambda_ must be positive and zeta lie in 0 .. 1, got {lambda_} and {zeta}")
        self.lambda_, self.zeta = lambda_, zeta

    def calls(self) -> Cost:
        return Cost(nfe=self.steps)

    def run(self, y: Tensor, physics: Any, sigma: float, noise: NoiseSequence) -> Tensor:
        del noise
        model = deepinv.sampling.DiffPIR(
            AsTheirs(self.prior),
            deepinv.optim.L2(),
            sigma=sigma,
            max_iter=self.steps,
            zeta=self.zeta,
            lambda_=self.lambda_,
        )
        return model(y, physics)


@contextmanager
def keyed(noise: NoiseSequence) -> Iterator[None]:
    """torch.randn_like gives the next batch of the sequence, in the shape that is asked for."""
    before = torch.randn_like
    torch.randn_like = lambda like, **_: noise.next().to(like).view(like.shape)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randn_like = before
