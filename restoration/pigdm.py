"""PiGDM: pseudo-inverse guided diffusion, the gradient of a Gaussian likelihood whose variance knows what the denoiser
does not.
"""

from dataclasses import replace
from typing import Literal

from torch import Tensor

from common.random_streams import NoiseSequence
from degradations.linear import proximal
from diffusion.denoiser import Denoiser, Prediction
from diffusion.samplers.base import Predict, Sampler
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Bias, Cost
from restoration.posterior import PosteriorSampler, Problem
from restoration.through_prior import through_prior

_OF_THE_CODE = Bias(
    "weights y by r^2 in place of sigma^2 and leaves eps as it is, so that the noise is explained too",
    mean=1.8,
    deviation=(0.2, 1.1),
)


class PiGDM(PosteriorSampler):
    """x0' = x0 + sigma^2 J^T A^T (r^2 A A^T + sigma_y^2 I)^-1 (y - A x0), then the sampler's step: J = d x0 / d x, and
    r^2 = sigma^2 / (1 + sigma^2) stands for the covariance of x0 given x.

    The conditional score of p(x0 | x) = N(x0(x), r^2 I), exact for data ~ N(0, I). Song et al. 2023 (Pseudoinverse-
    guided diffusion models for inverse problems, ICLR), equations 7 and 8. Where pixels go together, as those of
    pictures do, x0 given x has a variance far above r^2 in the directions that J lets through, and at high levels the
    term overshoots by up to sigma^2 / r^2. Rule "code" weights it by r^2 and leaves eps as it is, as the RED-diff
    authors' code does for measurements without noise: the step is bounded, and no conditional score.

    Args:
        prior: the denoiser.
        steps: number of noise levels, 1 .. the prior's training times; null for all of them; the paper takes 100.
        spacing: how the levels lie, see diffusion/levels.py.
        rule: "score", the formula above, or "code".
        clip: clip x0 to [-1, 1] before y is asked (no gradient flows through clipped pixels).
        sampler: whose steps are taken; ancestral DDPM where it is null.

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"proximal", "gradient", "white_noise"})
    bias = Bias(
        "takes the prior's uncertainty for the same in every pixel and independent between them",
        mean=0.3,
        deviation=(0.85, 1.1),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = 100,
        spacing: str = "trailing",
        rule: Literal["score", "code"] = "score",
        clip: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        if rule not in ("score", "code"):
            raise ValueError(f"rule must be 'score' or 'code', got '{rule}'")
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.rule = rule
        if rule == "code":
            self.bias = _OF_THE_CODE
        self.sampler = sampler or AncestralDDPM()
        self.sigmas = self.sampler.suited(self.sigmas)
        self.sampler.check_first_step(self.levels())

    def calls(self) -> Cost:
        """Every call of the sampler's goes backwards too."""
        nfe = self.sampler.calls(len(self.sigmas) - 1)
        return Cost(nfe=nfe, backwards=nfe)

    def begin(self, problem: Problem) -> "_Memory":
        return _Memory(self.sampler.start(self.levels()))

    def step(
        self,
        problem: Problem,
        prepared: "_Memory",
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        def told(x: Tensor, sigma: float) -> Prediction:
            return self.conditional(problem, predict, x, sigma)

        outcome = self.sampler.step(told, x, sigma, sigma_next, prepared.value, noise)
        prepared.value = outcome.memory
        return outcome.x, outcome.prediction.x0

    def conditional(self, problem: Problem, predict: Predict, x: Tensor, sigma: float) -> Prediction:
        """The prediction of x0 given x [B N, C, H, W] at this level and y, and its eps."""
        prediction, shift = through_prior(predict, x, sigma, lambda x0: self.pull(problem, x0, sigma))
        if self.rule == "code":
            return replace(prediction, x0=prediction.x0 + shift / (1 + sigma**2))
        return replace(prediction, x0=prediction.x0 + shift, eps=prediction.eps - shift / sigma)

    def pull(self, problem: Problem, x0: Tensor, sigma: float) -> Tensor:
        """A^T (r^2 A A^T + sigma_y^2 I)^-1 (y - A x0), [B N, C, H, W]: a proximal step of x0, divided by r^2."""
        variance = sigma**2 / (1 + sigma**2)
        return (proximal(problem.operator, x0, problem.y, problem.sigma**2 / variance) - x0) / variance


class _Memory:
    """What the sampler's last step left."""

    def __init__(self, value: object) -> None:
        self.value = value
