"""Stein's unbiased risk estimate of one noisier copy, in one pass."""

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.stopping.base import StoppingCriterion, Watch
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping


class SURE(StoppingCriterion):
    """Fit y + s eps and stop where R = r + 2 (sigma^2 + s^2) d - (sigma^2 + s^2) is least; the answer is of that fit,
    so the added noise is paid for.

    The divergence of Stein 1981 is read off the noise that was added, d = mean((A f - y) eps) / s; through a deep
    image prior's own optimisation there is no other cheap way to it. :class:`MultiNoiseEarlyStopping` with one level
    and without its second pass.

    Args:
        level: s as a multiple of sigma.
        sigma_255: of the noise in grey levels of 255; null: the measurement's.
        patience: iterations without a lower risk after which the fit ends.
        smooth: iterations that the risk is averaged over; its minimum is taken in their middle.
        average: judge and answer with the averaged iterate (true, default) or the raw one.
    """

    def __init__(
        self,
        *,
        level: float = 0.5,
        sigma_255: float | None = None,
        patience: int = 200,
        smooth: int = 20,
        average: bool = True,
    ) -> None:
        self._criterion = MultiNoiseEarlyStopping(
            levels=[level], sigma_255=sigma_255, patience=patience, smooth=smooth, second_pass=False, average=average
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        self._criterion.check(operator, noise)

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        return self._criterion.watch(measurement, random=random, iterations=iterations)
