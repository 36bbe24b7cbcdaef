"""DDRM: denoising diffusion restoration models, the measurement put in component by component of the SVD."""

import torch
from torch import Tensor

from common.random_streams import NoiseSequence
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import Predict
from restoration.base import Bias
from restoration.posterior import PosteriorSampler, Problem
from restoration.spectrum import Spectrum


class DDRM(PosteriorSampler):
    """In the basis of A = U S V^T, with c = V^T x0, y_i = (U^T y)_i / s_i and l_i = sigma_y / s_i, one step to sigma':
    s_i = 0: c_i + sigma' (sqrt(1 - eta^2) eps_i + eta z); l_i > sigma': c_i + sigma' (sqrt(1 - eta^2) (y_i - c_i) /
    l_i + eta z); l_i <= sigma': (1 - eta_b) c_i + eta_b y_i + sqrt(sigma'^2 - eta_b^2 l_i^2) z.

    Kawar et al. 2022 (2201.11793), equations 7 and 8. Without noise measured components are exact in the result; the
    released code leaves them to the prior in the last step.

    Args:
        prior: the denoiser.
        steps: number of noise levels, 1 .. the prior's training times; null for all of them; the paper takes 20.
        spacing: how the levels lie, see diffusion/levels.py.
        eta: share of fresh noise in what is not measured, 0 .. 1.
        eta_b: how much of the measurement replaces the estimate, 0 .. 1.
        clip: clip every x0 that the prior estimates to [-1, 1]; the paper does not.

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"svd", "white_noise"})
    bias = Bias(
        "takes what it measured for certain once the chain is noisier, so that measured parts vary too little, and few"
        " steps pull the rest to the prior's mean",
        mean=1.0,
        deviation=(0.2, 1.1),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = 20,
        spacing: str = "trailing",
        eta: float = 0.85,
        eta_b: float = 1.0,
        clip: bool = True,
    ) -> None:
        if not 0 <= eta <= 1 or not 0 <= eta_b <= 1:
            raise ValueError(f"eta and eta_b must lie in 0 .. 1, got {eta} and {eta_b}")
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.eta, self.eta_b = eta, eta_b

    def begin(self, problem: Problem) -> Spectrum:
        return Spectrum.of(problem)

    def start(self, problem: Problem, prepared: Spectrum) -> Tensor:
        """y_i + sqrt(sigma^2 - l_i^2) z where l_i <= sigma, else sigma z."""
        sigma = self.levels()[0]
        noise = problem.normal(f"{self._stream()} start").to(problem.y)
        fresh = prepared.svd.vt(noise).to(noise)
        rest = (sigma**2 - prepared.level**2).clamp(min=0).sqrt()
        found = torch.where(prepared.level <= sigma, prepared.y + rest * fresh, sigma * fresh)
        return prepared.svd.v(found).view_as(noise).to(noise)

    def step(
        self,
        problem: Problem,
        prepared: Spectrum,
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        prediction = predict(x, sigma)
        moved = prepared.move(
            prediction.x0, prediction.eps, noise.next(), sigma_next, eta=self.eta, eta_measured=self.eta_b
        )
        return moved, prediction.x0
