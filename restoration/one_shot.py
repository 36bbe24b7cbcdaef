"""One call of a denoiser at the measurement's own level: denoising, nothing else."""

import torch

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import predictor
from restoration.base import Cost, OnStep, Restoration, Unsupported
from restoration.denoising import Denoising


class OneShot(Denoising):
    """x = D(y / a, sigma / a) for y = a x + sigma z: the mean of the posterior, as far as the prior is right.

    Args:
        prior: the denoiser; a level beyond its range is refused where it refuses it.
    """

    needs_prior = True
    prior: Denoiser

    def __init__(self, *, prior: Denoiser) -> None:
        self.prior = prior

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        level = noise.sigma / self.scale(operator)
        if reason := self.prior.refused(level, level):
            raise Unsupported(reason)

    def calls(self) -> Cost:
        return Cost(nfe=1)

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del num_samples, random
        self.check(measurement.operator, measurement.noise)
        scale = self.scale(measurement.operator)
        y = measurement.y / scale
        x0 = predictor(self.prior, clip=False)(y, measurement.sigma / scale).x0
        if on_step is not None:
            on_step(0, 1, x0)
        blind = "the prior is blind: it goes by the picture alone, and the level of the noise is not used"
        notes = (blind,) * len(y) if self.prior.blind else ()
        return Restoration(samples=x0.unsqueeze(1), cost=self.calls(), notes=notes)
