"""PnP-Flow: gradient steps on the data, each followed by noise that the prior takes away again."""

import math

import torch

from common.random_streams import RandomStreams
from degradations.linear import pseudo_inverse
from degradations.measurement import Measurement
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import predictor
from restoration.base import Cost, Method, OnStep, Restoration
from restoration.data_gradient import data_gradient
from restoration.posterior import Problem


class PnPFlow(Method):
    """For t = 1/S .. 1 - 1/S: z = x - step_size (1 - t)^power A^T (A x - y); x = the mean over draws of D((1 - t) / t
    noise + z; sigma = (1 - t) / t).

    Martin et al. 2025 (PnP-Flow, ICLR; 2410.02423), algorithm 3: interpolating z with noise along the straight path of
    flow matching and following the velocity to its end is denoising at sigma = (1 - t) / t, so that any denoiser
    serves. One estimate, which differs between samples by its noise alone.

    Args:
        prior: the denoiser, of a flow or a diffusion.
        steps: S, at least 2; the paper takes 100.
        draws: noises that every step averages over, at least 1; the paper takes 5.
        step_size: of the data's gradient at t = 0, as a fraction of 1 / |A|^2, in (0, 2).
        power: how fast that step falls, at least 0.
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
        steps: int = 100,
        draws: int = 5,
        step_size: float = 1.0,
        power: float = 0.5,
        clip: bool = True,
    ) -> None:
        if steps < 2 or draws < 1:
            raise ValueError(f"steps must be at least 2 and draws at least 1, got {steps} and {draws}")
        if not (0 < step_size < 2 and 0 <= power < math.inf):
            raise ValueError(
                f"step_size must lie in (0, 2) and power be at least 0 and finite, got {step_size} and {power}"
            )
        self.prior, self.clip, self.draws = prior, clip, draws
        self.steps, self.step_size, self.power = steps, step_size, power

    def calls(self) -> Cost:
        return Cost(nfe=(self.steps - 1) * self.draws)

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        problem, predict = Problem(measurement, num_samples, random), predictor(self.prior, clip=self.clip)
        operator, y = problem.operator, problem.y
        if operator.linear:
            x = problem.per_chain(pseudo_inverse(measurement.operator, measurement.y))
        else:
            x = torch.zeros(len(y), *problem.shape, dtype=y.dtype, device=y.device)
        residual, largest = [], operator.norm() ** 2
        with problem.sequence("pnpflow") as noise:
            for i in range(1, self.steps):
                t = i / self.steps
                sigma = min(max((1 - t) / t, self.prior.sigma_min), self.prior.sigma_max)
                step = self.step_size * (1 - t) ** self.power / largest
                z = x - step * data_gradient(operator, x, y)
                x = torch.stack([predict(z + sigma * noise.next().to(z), sigma).x0 for _ in range(self.draws)]).mean(0)
                residual.append((y - operator(x)).flatten(1).norm(dim=1).mean())
                if on_step is not None:
                    on_step(i - 1, self.steps - 1, x)
        return Restoration(
            samples=x.unflatten(0, (-1, num_samples)),
            cost=self.calls(),
            trace={"residual": torch.stack(residual).tolist()},
        )
