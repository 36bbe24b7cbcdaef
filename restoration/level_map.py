"""Level map: known pixels are shown to the prior at the level at which they are known, missing ones at the chain's."""

import math
from collections.abc import Callable
from typing import cast

from torch import Tensor

from common.image_range import sigma_from
from common.random_streams import NoiseSequence
from degradations.base import Operator
from degradations.noise import Noise
from diffusion.denoiser import Denoiser, Prediction
from diffusion.samplers.base import Predict
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Unsupported
from restoration.posterior import PosteriorSampler, Problem


class LevelMap(PosteriorSampler):
    """s_p = (1 / sigma^2 + M_p / sigma_y^2)^(-1/2), m_p = s_p^2 (x_p / sigma^2 + M_p y_p / sigma_y^2); x0 = D(m, s) =
    E[x0 | x, y], then an ancestral step: exact draws of the posterior, where D is exact for noise of level s_p at
    pixel p.

    A prior that was trained at one level an image answers too, and nobody told it what it is then asked; train it with
    lightning_modules/masked_ddpm.py. Mammadov et al. (Exact Posterior Score Estimation for Solving Linear Inverse
    Problems), for masks, by the network's map of levels.

    Args:
        prior: the denoiser, which takes maps of levels.
        steps: number of noise levels, 1 .. the prior's training times; null for all of them.
        spacing: how the levels lie, see diffusion/levels.py.
        least_sigma_255: sigma_y where the measurement has less noise, in 0..255 units, positive; pixels known more
            exactly than the prior's least level are shown at that.
        clip: clip every x0 to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"mask", "white_noise"})

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = 100,
        spacing: str = "trailing",
        least_sigma_255: float = 0.255,
        clip: bool = True,
    ) -> None:
        if not 0 < least_sigma_255 < math.inf:
            raise ValueError(f"least_sigma_255 must be positive and finite, got {least_sigma_255}")
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.least = sigma_from(sigma_255=least_sigma_255)

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        if not self.prior.takes_maps:
            raise Unsupported(
                "level_map needs a prior that takes a level for every pixel, and this one takes one for an image: give"
                " one with networks.unet.UNet, or take ddnm or pigdm"
            )

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
        assert problem.operator.mask is not None
        known = problem.operator.mask.to(x).expand(len(x), 1, -1, -1)
        at = cast(Callable[[Tensor, Tensor], Prediction], predict)

        def given_y(x: Tensor, sigma: float) -> Prediction:
            of_y = known / max(problem.sigma, self.least) ** 2
            precision = sigma**-2 + of_y
            mean = (sigma**-2 * x + of_y * problem.y) / precision
            x0 = at(mean, precision.rsqrt().clamp(min=self.prior.sigma_min)).x0
            return Prediction(x0=x0, eps=(x - x0) / sigma)

        outcome = AncestralDDPM().step(given_y, x, sigma, sigma_next, None, noise)
        return outcome.x, outcome.prediction.x0
