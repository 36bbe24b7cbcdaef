"""RED-diff: one image that explains y and whose noised versions the denoiser leaves alone, found by optimisation."""

import math

import torch

from common.random_streams import RandomStreams
from degradations.linear import pseudo_inverse
from degradations.measurement import Measurement
from diffusion.denoiser import Denoiser
from diffusion.levels import spaced_sigmas
from diffusion.samplers.base import predictor
from restoration.base import Cost, Method, OnStep, Restoration
from restoration.data_gradient import data_gradient
from restoration.posterior import Problem


class REDDiff(Method):
    """Adam on weight sigma mean((eps(mu + sigma z) - z) mu) + mean(|y - A mu|^2) / 2, no gradient through the network,
    sigma falling along the prior's levels; mu begins at A^+ y.

    Mardani et al. 2023 (2305.04391), algorithm 1 with the weight of its code, linear in sigma. It seeks a mode: samples
    differ by what the noise left, not as the posterior does. Means are over pixels and over measured values, as in the
    released code, which weight depends on.

    Args:
        prior: the denoiser.
        steps: number of levels and of Adam's steps, 1 .. the prior's training times; null for all of them.
        spacing: how the levels lie, see diffusion/levels.py.
        weight: of the prior's term (lambda), positive.
        learning_rate: of Adam, in [-1, 1] units a step, positive.
        clip: clip every x0 that the prior estimates to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True
    prior: Denoiser
    needs = frozenset({"gradient"})

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = 1000,
        spacing: str = "linspace",
        weight: float = 0.25,
        learning_rate: float = 0.1,
        clip: bool = True,
    ) -> None:
        if not (0 < weight < math.inf and 0 < learning_rate < math.inf):
            raise ValueError(f"weight and learning_rate must be positive and finite, got {weight} and {learning_rate}")
        self.prior, self.clip, self.weight, self.learning_rate = prior, clip, weight, learning_rate
        self.sigmas = spaced_sigmas(prior, prior.num_timesteps if steps is None else steps, spacing)

    def calls(self) -> Cost:
        return Cost(nfe=len(self.sigmas) - 1)

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        problem, predict = Problem(measurement, num_samples, random), predictor(self.prior, clip=self.clip)
        operator, y, sigmas = problem.operator, problem.y, self.sigmas[:-1].tolist()
        if operator.linear:
            mu = problem.per_chain(pseudo_inverse(measurement.operator, measurement.y)).clone()
        else:
            mu = torch.zeros(len(y), *problem.shape, dtype=y.dtype, device=y.device)
        values = operator.input_shape[0] * operator.input_shape[1] * operator.input_shape[2]
        mask = operator.mask
        shape = (-1, *[1] * (mu.ndim - 1))
        measured = y[0].numel()
        if mask is not None:  # min: where nothing was measured the gradient is 0, and no mean of nothing
            measured = (mask.flatten(1).sum(1) * y.shape[1]).clamp(min=1).view(shape).to(mu)
        first, second = torch.zeros_like(mu), torch.zeros_like(mu)
        residual = []
        with problem.sequence("reddiff") as noise:
            for i, sigma in enumerate(sigmas):
                z = noise.next().to(mu)
                prediction = predict(mu + sigma * z, sigma)
                gradient = self.weight * sigma * (prediction.eps - z) / values
                gradient = gradient + data_gradient(operator, mu, y) / measured
                # Adam by hand: nothing is recorded, and its least divisor, of a gradient per pixel, lies above what
                # rounding leaves where the gradient is 0, which it would make a full step of.
                first = 0.9 * first + 0.1 * gradient
                second = 0.99 * second + 0.01 * gradient.square()
                direction = first / (1 - 0.9 ** (i + 1)) / ((second / (1 - 0.99 ** (i + 1))).sqrt() + 3e-3 / values)
                mu = mu - self.learning_rate * direction
                residual.append((y - operator(mu)).flatten(1).norm(dim=1).mean())
                if on_step is not None:
                    on_step(i, len(sigmas), mu)
        return Restoration(
            samples=mu.unflatten(0, (-1, num_samples)),
            cost=self.calls(),
            trace={"residual": torch.stack(residual).tolist()},
        )
