"""SDEdit: noise a guide until its faults drown, and denoise it with the prior."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.random_streams import NoiseSequence
from diffusion.denoiser import Denoiser
from diffusion.levels import below
from diffusion.samplers.base import Predict, Sampler
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Bias, Cost
from restoration.posterior import PosteriorSampler, Problem


class SDEdit(PosteriorSampler):
    """x = g + sigma_start z with the guide g = A^+ y, then the sampler's steps from sigma_start to 0; repeated with the
    result as the guide.

    The operator is used for the guide only: the larger the start, the more realistic and the less faithful. Holes of
    the guide are mid-grey and are kept so at a small start. Meng et al. 2021 (2108.01073), algorithm 1, in x = x0 +
    sigma * noise units.

    Args:
        prior: the denoiser.
        start: fraction of the training times in (0, 1], the paper's t0; the default lies in the range 0.3 .. 0.6 that
            the paper recommends.
        repeats: how often in all, at least 1, the paper's K.
        steps: number of noise levels over all training times, 1 .. their number, null for each of them; those below
            the start are walked.
        spacing: how the levels lie, see diffusion/levels.py: karras, trailing, leading or linspace.
        clip: clip every x0 to [-1, 1], which images lie in.
        sampler: whose steps are walked; ancestral DDPM where it is null, as in the paper.

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"linear"})
    reasons = {"linear": "an image-shaped guide A^+ y"}
    bias = Bias(
        "forgets y as it forgets the faults of the guide: samples lie between the guide and the prior's own",
        mean=6.0,
        deviation=(0.9, 6.5),
    )

    begins_in_noise = False

    def __init__(
        self,
        *,
        prior: Denoiser,
        start: float = 0.4,
        repeats: int = 1,
        steps: int | None = None,
        spacing: str = "linspace",
        clip: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        if not 0 < start <= 1 or repeats < 1:
            raise ValueError(
                f"start must lie in (0, 1] and repeats be at least 1, got start={start}, repeats={repeats}"
            )
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.repeats, self.sampler = repeats, sampler or AncestralDDPM()
        self.sampler.check(prior)
        time = torch.tensor([round(start * prior.num_timesteps) - 1.0], dtype=torch.float64).clamp(min=0)
        # min: a spacing such as "leading" may begin below the level asked for.
        self.highest = min(float(prior.level_at(time)), float(self.sigmas[0]))
        self.sigmas = self.sampler.suited(below(self.sigmas, self.highest))
        self.sampler.check_first_step(self.sigmas.tolist())
        self.highest = float(self.sigmas[0])

    def levels(self) -> list[float]:
        """From the guide, at level 0, up to the start and down again, and so on."""
        return [0.0, *self.sigmas[:-1].tolist()] * self.repeats + [0.0]

    def calls(self) -> Cost:
        return Cost(nfe=self.repeats * self.sampler.calls(len(self.sigmas) - 1))

    def begin(self, problem: Problem) -> "_Run":
        return _Run()

    def start(self, problem: Problem, prepared: "_Run") -> Tensor:
        """The guide, one for all samples of an image."""
        return problem.per_chain(problem.measurement.operator.pseudo_inverse(problem.measurement.y))

    def step(
        self,
        problem: Problem,
        prepared: "_Run",
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        if sigma == self.highest:
            prepared.memory = self.sampler.start(self.sigmas.tolist())
        outcome = self.sampler.step(predict, x, sigma, sigma_next, prepared.memory, noise)
        prepared.memory = outcome.memory
        return outcome.x, outcome.prediction.x0

    def observe(self, problem: Problem, prepared: "_Run", x0: Tensor) -> dict[str, Tensor]:
        """Nothing: no step looks at the measurement."""
        return {}


@dataclass
class _Run:
    memory: Any = None  # of the sampler
