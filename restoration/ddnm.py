"""DDNM: the range of the operator comes from the measurement, its null space from the prior."""

import math

from torch import Tensor

from common.random_streams import NoiseSequence
from degradations.base import Operator
from degradations.linear import pseudo_inverse
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import Predict
from restoration.base import Bias, Unsupported
from restoration.needs import unmet
from restoration.posterior import PosteriorSampler, Problem
from restoration.spectrum import Spectrum


class DDNM(PosteriorSampler):
    """x0' = A^+ y + (I - A^+ A) x0, x' = x0' + sigma' (eta z + sqrt(1 - eta^2) eps), eps of the estimate before; with
    noise, DDNM+: the same component by component of the SVD, which is DDRM's step with eta_b = 1.

    Wang et al. 2022 (2212.00490), algorithms 1 to 3. Travels go back by the forward kernel, as in the paper; the
    released code draws that state anew from the last x0.

    Args:
        prior: the denoiser.
        steps: number of noise levels, 1 .. the prior's training times; null for all of them; the paper takes 100.
        spacing: how the levels lie, see diffusion/levels.py.
        eta: share of fresh noise, 0 .. 1.
        travel_length: levels that a travel back in time goes up, at least 1.
        travel_repeats: how often each stretch of that length is walked, at least 1, which is no travel.
        clip: clip every x0 that the prior estimates to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"linear", "white_noise"})
    bias = Bias(
        "takes what it measured for certain once the chain is noisier, so that measured parts vary too little",
        mean=1.0,
        deviation=(0.2, 1.1),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = 100,
        spacing: str = "trailing",
        eta: float = 0.85,
        travel_length: int = 1,
        travel_repeats: int = 1,
        clip: bool = True,
    ) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in 0 .. 1, got {eta}")
        if travel_length < 1 or travel_repeats < 1:
            raise ValueError(
                f"travel_length and travel_repeats must be at least 1, got {travel_length} and {travel_repeats}"
            )
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.eta, self.travel_length, self.travel_repeats = eta, travel_length, travel_repeats

    def levels(self) -> list[float]:
        """Every stretch of travel_length levels, travel_repeats times."""
        sigmas, walked = self.sigmas.tolist(), []
        for first in range(0, len(sigmas) - 1, self.travel_length):
            stretch = sigmas[first : first + self.travel_length + 1]
            walked += stretch * (self.travel_repeats - 1) + stretch[:-1]
        return [*walked, 0.0]

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        lacking = unmet({"svd"}, operator, noise) if noise.sigma > 0 else None
        if lacking is not None:
            raise Unsupported(f"ddnm needs, where there is noise, {lacking}")

    def begin(self, problem: Problem) -> Spectrum | None:
        return Spectrum.of(problem) if problem.sigma > 0 else None

    def step(
        self,
        problem: Problem,
        prepared: Spectrum | None,
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        prediction, fresh = predict(x, sigma), noise.next().to(x)
        if prepared is not None:
            moved = prepared.move(prediction.x0, prediction.eps, fresh, sigma_next, eta=self.eta, eta_measured=1.0)
            return moved, prediction.x0
        operator = problem.operator
        x0 = prediction.x0 + pseudo_inverse(operator, problem.y - operator(prediction.x0))
        return x0 + sigma_next * (self.eta * fresh + math.sqrt(1 - self.eta**2) * prediction.eps), x0
