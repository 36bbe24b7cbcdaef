"""Fit one noisier copy of the measurement and judge by another whose noise is independent:
recorrupted-to-recorrupted.
"""

from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.stopping.base import StoppingCriterion, Watch
from restoration.stopping.injected_noise import InjectedNoise, NoisyCopiesWatch
from restoration.stopping.noise_level import check_level, check_sigma, known_sigma, known_variance
from restoration.stopping.staged import StageOptions


class RecorruptedPair(StoppingCriterion):
    """Fit y + alpha sigma w, judge by V = mean((A f - (y - sigma w / alpha))^2), whose mean is the error + sigma^2 (1 +
    alpha^-2): stop at its least.

    For Gaussian noise of variance sigma^2 the noises of the two copies are independent (Pang et al. 2021,
    recorrupted-to-recorrupted). A sigma that is too small leaves them correlated and stops late. Where the noise's
    own law has another sigma_i for every value, the copies are y + s w and y - sigma_i^2 w / s, s = alpha times the
    rms of sigma_i. With level alpha and the same w, V is the risk of :class:`SURE` up to a constant.

    Args:
        alpha: of the added noise.
        sigma_255: of the noise; null for the measurement's, estimated where that is 0.
        patience: iterations without a lower risk after which a stage ends.
        smooth: iterations that the risk is averaged over; its minimum is taken in their middle.
        second_pass: afterwards fit y itself for kappa times the best iteration.
        kappa: iterations of the second pass over those of the best of the first, in 0.5 .. 3 (default 1.05).
        average: judge and answer with the averaged iterate (true, default) or the raw one.

    Raises:
        ValueError: an alpha or sigma_255 that is not positive.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        sigma_255: float | None = None,
        patience: int = 200,
        smooth: int = 20,
        second_pass: bool = False,
        kappa: float = 1.05,
        average: bool = True,
    ) -> None:
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, got {alpha}")
        check_level(sigma_255)
        self.alpha, self.sigma_255 = alpha, sigma_255
        self.stages = StageOptions(
            patience=patience, smooth=smooth, second_pass=second_pass, kappa=kappa, average=average
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        check_sigma(operator, noise, self.sigma_255)

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        sigma, variance = known_sigma(measurement, self.sigma_255), known_variance(measurement, self.sigma_255)
        noise = InjectedNoise.drawn(measurement, random, "recorrupted", self.alpha * sigma, variance)
        return _Watch(measurement, noise, self.stages, iterations)


class _Watch(NoisyCopiesWatch):
    signal = "error_to_other_copy"
    told = ("the error to the second copy", "the first copy")

    def __init__(self, measurement: Measurement, noise: InjectedNoise, options: StageOptions, iterations: int) -> None:
        self._noise = noise
        level = noise.level.to(measurement.y).view(-1, *[1] * (measurement.y.ndim - 1))
        self._other = measurement.y - noise.sigma2 / level * noise.eps
        super().__init__(measurement, [noise], options, iterations)

    def judge(self, f: Tensor) -> dict[str, Tensor]:
        square = (self.measurement.operator(f) - self._other).square() / 4
        return {self.signal: self._noise.mean(square), "stage": self.stage.double()}
