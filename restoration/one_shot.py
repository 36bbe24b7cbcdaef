"""One call of a denoiser at the measurement's own level: denoising, nothing else."""

import torch

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from degradations.noise import Noise
from degradations.scaled import Scaled
from diffusion.denoiser import Denoiser
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported


class OneShot(Method):
    """x = D(y / a, sigma / a) for y = a x + sigma z: the mean of the posterior, as far as the prior is right.

    Args:
        prior: the denoiser; a level beyond its range is refused where it refuses it.
    """

    needs_prior = True
    deterministic = True
    needs = frozenset({"white_noise", "likelihood"})
    reasons = {"likelihood": "noise above 0, to remove"}
    prior: Denoiser

    def __init__(self, *, prior: Denoiser) -> None:
        self.prior = prior

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        scale = _scale(operator)
        if scale is None:
            raise Unsupported(
                f"one_shot removes noise and undoes nothing, and {operator.description or type(operator).__name__} is"
                " in the way: take another method"
            )
        level = noise.sigma / scale
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
        scale = _scale(measurement.operator)
        assert scale is not None  # checked above
        y = measurement.y / scale
        x0 = self.prior.predict(y, y.new_full((len(y),), measurement.sigma / scale)).x0
        if on_step is not None:
            on_step(0, 1, x0)
        blind = "the prior is blind: it goes by the picture alone, and the level of the noise is not used"
        notes = (blind,) * len(y) if self.prior.blind else ()
        return Restoration(samples=x0.unsqueeze(1), cost=self.calls(), notes=notes)


def _scale(operator: Operator) -> float | None:
    """a of A = a I, None where A is another operator."""
    if isinstance(operator, Scaled):
        return operator.scale
    return 1.0 if isinstance(operator, IdentityOperator) else None
