"""The honest baseline without any prior: the pseudo-inverse of the operator."""

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.base import Cost, Method, OnStep, Restoration


class PseudoInverse(Method):
    """x = A^+ y: of all images that explain the measurement best, the one of least norm.

    Holes of a mask become mid-grey (0 in [-1, 1]); small singular values are cut at the operator's threshold, and the
    noise in what is kept is amplified by their inverse: this is what a prior has to beat. Deterministic, no network
    call.
    """

    deterministic = True
    needs = frozenset({"linear"})

    def calls(self) -> Cost:
        return Cost()

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        x = measurement.operator.pseudo_inverse(measurement.y)
        if on_step is not None:
            on_step(0, 1, x)
        return Restoration(samples=x.unsqueeze(1))
