"""A control: fit one noisier copy of the measurement and judge by another that shares the measurement's own noise."""

from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.stopping.base import StoppingCriterion, Watch
from restoration.stopping.injected_noise import InjectedNoise, NoisyCopiesWatch
from restoration.stopping.noise_level import check_level, check_sigma, known_sigma, known_variance
from restoration.stopping.staged import StageOptions


class NoisierPair(StoppingCriterion):
    """Fit y + s e_1, judge by V = mean((A f - y - s e_2)^2): a negative control, whose mean is the error + sigma^2 +
    s^2 - 2 sigma^2 d, and not without d.

    Both copies hold the same n, so memorising it lowers V, by 2 sigma^2 d with d the share that is memorised: V is
    least too late, or never rises.

    Args:
        level: s as a multiple of sigma.
        corrected: add 2 sigma^2 d with d = mean((A f - y) e_1) / s, which makes it unbiased for Gaussian n, the risk of
            :class:`MultiNoiseEarlyStopping` in other words (with the noise of e_2 besides). :class:`RecorruptedPair`
            scales the second noise so that nothing is shared.
        sigma_255: of the noise; null for the measurement's, estimated where that is 0.
        patience: iterations without a lower risk after which a stage ends.
        smooth: iterations that the risk is averaged over; its minimum is taken in their middle.
        second_pass: afterwards fit y itself for kappa times the best iteration.
        kappa: iterations of the second pass over those of the best of the first, in 0.5 .. 3 (default 1.05).
        average: judge and answer with the averaged iterate (true, default) or the raw one.

    Raises:
        ValueError: a level or sigma_255 that is not positive.
    """

    def __init__(
        self,
        *,
        level: float = 0.5,
        corrected: bool = False,
        sigma_255: float | None = None,
        patience: int = 200,
        smooth: int = 20,
        second_pass: bool = False,
        kappa: float = 1.05,
        average: bool = True,
    ) -> None:
        if not level > 0:
            raise ValueError(f"level must be positive, got {level}")
        check_level(sigma_255)
        self.level, self.corrected, self.sigma_255 = level, corrected, sigma_255
        self.stages = StageOptions(
            patience=patience, smooth=smooth, second_pass=second_pass, kappa=kappa, average=average
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        check_sigma(operator, noise, self.sigma_255)

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        sigma, variance = known_sigma(measurement, self.sigma_255), known_variance(measurement, self.sigma_255)
        fitted, judge = (
            InjectedNoise.drawn(measurement, random, stream, self.level * sigma, variance)
            for stream in ("noisier_fitted", "noisier_judge")
        )
        return _Watch(measurement, fitted, judge, self.corrected, self.stages, iterations)


class _Watch(NoisyCopiesWatch):
    signal = "error_to_other_copy"
    told = ("the error to the other noisier copy", "one noisier copy")

    def __init__(
        self,
        measurement: Measurement,
        fitted: InjectedNoise,
        judge: InjectedNoise,
        corrected: bool,
        options: StageOptions,
        iterations: int,
    ) -> None:
        self._fitted, self._judge, self._corrected = fitted, judge, corrected
        super().__init__(measurement, [fitted], options, iterations)

    def judge(self, f: Tensor) -> dict[str, Tensor]:
        measured = self.measurement.operator(f)
        found = self._fitted.judge(measured)
        value = self._judge.judge(measured)["residual"]
        if self._corrected:
            value = value + 2 * found["memorised"]
        return {self.signal: value, "leak": found["leak"], "stage": self.stage.double()}
