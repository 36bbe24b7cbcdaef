"""DiffPIR: plug-and-play restoration along a diffusion, a proximal step of the data between two levels."""

import math

from torch import Tensor

from common.image_range import sigma_from
from common.random_streams import NoiseSequence
from degradations.linear import proximal
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import Predict
from restoration.base import Bias
from restoration.posterior import PosteriorSampler, Problem


class DiffPIR(PosteriorSampler):
    """x0' = argmin_z |y - A z|^2 + rho |z - x0|^2 with rho = weight sigma_y^2 / sigma^2; x' = x0' + sigma' (sqrt(1 -
    zeta) (x - x0') / sigma + sqrt(zeta) z).

    Zhu et al. 2023 (2305.08995), algorithm 1; the data are not asked in the last step. Their code divides a sigma_y in
    [0, 1] units by a sigma in [-1, 1] units: its lambda is 4 times the weight here (7 there is 1.75 here).

    Args:
        prior: the denoiser.
        steps: number of noise levels, 1 .. the prior's training times; null for all of them; the paper takes 100.
        spacing: how the levels lie, see diffusion/levels.py.
        weight: of the prior's estimate against the data, positive.
        zeta: share of fresh noise, 0 .. 1.
        least_sigma_255: sigma_y where the measurement has less noise, in 0..255 units, positive; the code takes 0.255.
        clip: clip every x0 that the prior estimates to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"proximal", "white_noise"})
    bias = Bias(
        "puts the most likely image in place of a drawn one in every step, so that samples vary too little",
        deviation=(0.6, 1.1),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = 100,
        spacing: str = "trailing",
        weight: float = 1.0,
        zeta: float = 1.0,
        least_sigma_255: float = 0.255,
        clip: bool = True,
    ) -> None:
        if not (0 < weight < math.inf and 0 <= zeta <= 1 and 0 < least_sigma_255 < math.inf):
            raise ValueError(
                f"weight and least_sigma_255 must be positive and finite and zeta lie in 0 .. 1, got {weight},"
                f" {least_sigma_255} and {zeta}"
            )
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.weight, self.zeta, self.least = weight, zeta, sigma_from(sigma_255=least_sigma_255)

    def step(
        self,
        problem: Problem,
        prepared: None,
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        x0 = predict(x, sigma).x0
        if sigma_next == 0:
            return x0, x0
        rho = self.weight * max(problem.sigma, self.least) ** 2 / sigma**2
        x0 = proximal(problem.operator, x0, problem.y, rho)
        kept = math.sqrt(1 - self.zeta) / sigma * (x - x0)
        return x0 + sigma_next * (kept + math.sqrt(self.zeta) * noise.next().to(x)), x0
