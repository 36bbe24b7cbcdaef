"""The one loop that posterior samplers share: levels, keyed noise, progress, trace and cost. A leaf says one step."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from common.random_streams import NoiseSequence, RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from diffusion.drawing import LOUD
from diffusion.levels import spaced_sigmas
from diffusion.samplers.base import Predict, predictor
from restoration.base import Bias, Cost, Method, OnStep, Restoration, Unsupported


@dataclass(frozen=True)
class Problem:
    """y = A x + n as B * N chains see it, image-major: chain r is sample r % N of image r // N.

    Args:
        measurement: of the B images, one row each. What is the same for all samples of an image (a pseudo-inverse, a
            solve) is cheaper from here, see :meth:`per_chain`.
        num_samples: N.
        random: the streams of the run.
    """

    measurement: Measurement
    num_samples: int
    random: RandomStreams

    @cached_property
    def chains(self) -> Measurement:
        """The measurement with one row per chain."""
        return self.measurement.repeat(self.num_samples)

    @property
    def y(self) -> Tensor:
        """[B N, *output_shape]."""
        return self.chains.y

    @property
    def operator(self) -> Operator:
        """A, for x [B N, C, H, W]."""
        return self.chains.operator

    @property
    def noise(self) -> Noise:
        """The law of n; `noise.misfit` is the likelihood."""
        return self.measurement.noise

    @property
    def sigma(self) -> float:
        """The level of n, in the same units as those of the chain."""
        return self.measurement.sigma

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image."""
        return tuple(self.operator.input_shape)

    @cached_property
    def sample(self) -> list[int]:
        """The number 0 .. N - 1 of each chain among those of its image, which keys its noise."""
        return [r % self.num_samples for r in range(len(self.y))]

    def per_chain(self, values: Tensor) -> Tensor:
        """What belongs to images, [B, ...], for every chain: [B N, ...]."""
        return values.repeat_interleave(self.num_samples, 0)

    def normal(self, stream: str) -> Tensor:
        """Standard normal [B N, C, H, W] from the beginning of a stream of this name, float32."""
        return self.random.normal_batch(stream, self.chains.index, self.sample, self.shape, self.y.device)

    def sequence(self, stream: str) -> NoiseSequence:
        """Standard normal batches [B N, C, H, W], one after the other, of a stream of this name."""
        return self.random.sequence(stream, self.chains.index, self.sample, self.shape, self.y.device)


#: (problem, predict, sigma, sigma_next) -> the prior as this step is to see it: how one wrapper changes every sampler.
Around = Callable[[Problem, Predict, float, float], Predict]


class PosteriorSampler(Method):
    """x = x0 + sigma * noise, walked down the prior's levels to sigma = 0; every step pulls x0 towards p(x | y).

    A leaf is an equation, and writes :meth:`step` alone. DDNM for masks without noise, whole::

        class MaskDDNM(PosteriorSampler):
            \"\"\"x0' = x0 + A^T (y - A x0), x' = x0' + sigma' z. Wang et al. 2022 (2212.00490).\"\"\"

            needs = frozenset({"mask"})
            bias = Bias("measured pixels keep the noise of y", mean=0.5, deviation=(0.0, 1.1))

            def step(self, problem, prepared, predict, x, sigma, sigma_next, noise):
                x0 = predict(x, sigma).x0
                x0 = x0 + problem.operator.adjoint(problem.y - problem.operator(x0))
                return x0 + sigma_next * noise.next().to(x), x0

    What differs from the defaults below, it says too: `needs`, what it takes from operator and noise, names of
    restoration/needs.py, refused before anything runs where it is missing; `bias`, how far it is from the posterior;
    `nfe_per_step` and `backwards_per_step`, or :meth:`calls`, what it costs; :meth:`begin`, what is computed once;
    :meth:`start`, where chains begin; :meth:`levels`, other levels; :meth:`observe`, other curves. Nothing records
    gradients: a step that wants some says ``with torch.enable_grad()``. A leaf keeps nothing of a run in itself: state
    between steps stands in what :meth:`begin` gives back. tests/restoration/test_every_method.py finds the file by
    itself, counts the calls, and measures the bias.

    Args:
        prior: the denoiser.
        steps: number of noise levels, 1 .. the prior's training times; null for all of them.
        spacing: how the levels lie, see diffusion/levels.py: karras, trailing, leading or linspace; "trailing" is best
            for few steps.
        clip: clip every x0 that the prior estimates to [-1, 1], which images lie in.

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True
    prior: Denoiser
    bias: Bias | None = Bias()
    #: Whether chains begin in pure noise, which the prior must know.
    begins_in_noise: bool = True
    #: Network calls of a step for one chain, and how many of them are gone through backwards.
    nfe_per_step: int = 1
    backwards_per_step: int = 0
    #: Names the streams of noise, which a seed's images depend on; the class in lower case where it is empty.
    stream: str = ""

    def __init__(
        self, *, prior: Denoiser, steps: int | None = None, spacing: str = "trailing", clip: bool = True
    ) -> None:
        self.prior, self.clip = prior, clip
        self.sigmas = spaced_sigmas(prior, prior.num_timesteps if steps is None else steps, spacing)

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        highest = self.prior.sigma_max
        if self.begins_in_noise and highest < LOUD:
            raise Unsupported(
                f"chains of {self._stream()} begin in pure noise, and the highest level that the prior knows is"
                f" sigma_255 {127.5 * highest:.4g}, where pictures are still seen: take sdedit, one_shot or"
                " plug_and_play, or a prior that knows more noise"
            )

    def levels(self) -> list[float]:
        """The levels in the order in which they are walked, the last is 0. One that rises is reached by fresh noise,
        sqrt(sigma'^2 - sigma^2) z, and is no step: travels back in time and repetitions are lists.
        """
        return self.sigmas.tolist()

    def calls(self) -> Cost:
        steps = _descents(self.levels())
        return Cost(nfe=steps * self.nfe_per_step, backwards=steps * self.backwards_per_step)

    def begin(self, problem: Problem) -> Any:
        """What is computed once for a measurement (an SVD, step sizes), and the state of its run; given to each
        step as `prepared`.
        """
        return None

    def start(self, problem: Problem, prepared: Any) -> Tensor:
        """x [B N, C, H, W] at the first level: pure noise."""
        del prepared
        return self.levels()[0] * problem.normal(f"{self._stream()} start").to(problem.y.dtype)

    @abstractmethod
    def step(
        self,
        problem: Problem,
        prepared: Any,
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        """One step of all chains.

        Args:
            problem: y, A, n.
            prepared: what :meth:`begin` gave.
            predict: (x, sigma) -> Prediction(x0, eps, ...) of the prior.
            x: [B N, C, H, W] at sigma.
            sigma: the present level.
            sigma_next: the next one, below it; 0 in the last step.
            noise: ``noise.next()`` is fresh standard normal noise like x, float32.

        Returns:
            x at sigma_next, and the estimate of x0 at sigma, which progress and trace show.
        """

    def observe(self, problem: Problem, prepared: Any, x0: Tensor) -> dict[str, Tensor]:
        """What the trace holds of a step, by name, as tensors of one number: nothing here may wait for the device. The
        mean over chains of |y - A x0|.
        """
        del prepared
        return {"residual": (problem.y - problem.operator(x0)).flatten(1).norm(dim=1).mean()}

    @torch.no_grad()
    def restore(
        self,
        measurement: Measurement,
        *,
        num_samples: int = 1,
        random: RandomStreams,
        on_step: OnStep | None = None,
        around: Around | None = None,
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        num_samples = 1 if self.deterministic else num_samples
        problem, levels = Problem(measurement, num_samples, random), self.levels()
        predict, steps, done = predictor(self.prior, clip=self.clip), _descents(levels), 0
        curves: dict[str, list[Tensor]] = {}
        with problem.sequence(self._stream()) as noise:
            prepared = self.begin(problem)
            x = self.start(problem, prepared)
            for sigma, sigma_next in pairwise(levels):
                if sigma_next > sigma:
                    x = x + math.sqrt((sigma_next - sigma) * (sigma_next + sigma)) * noise.next()
                    continue
                seen = predict if around is None else around(problem, predict, sigma, sigma_next)
                x, x0 = self.step(problem, prepared, seen, x, sigma, sigma_next, noise)
                x, x0 = x.detach(), x0.detach()
                for name, value in self.observe(problem, prepared, x0).items():
                    curves.setdefault(name, []).append(value)
                if on_step is not None:
                    on_step(done, steps, x0)
                done += 1
        trace = {name: torch.stack(values).tolist() for name, values in curves.items()}  # the one look at the device
        return Restoration(samples=x.unflatten(0, (-1, num_samples)), cost=self.calls(), trace=trace)

    def _stream(self) -> str:
        return self.stream or type(self).__name__.lower()


def _descents(levels: list[float]) -> int:
    """How many steps a list of levels has: rises are none."""
    return sum(b < a for a, b in pairwise(levels))
