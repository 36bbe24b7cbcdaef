"""Stop where the residual reaches the noise's place in a diffusion schedule."""

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.schedules import Linear, Schedule
from restoration.base import Unsupported
from restoration.stopping.base import StoppingCriterion, Verdict, Watch, images_mean
from restoration.stopping.noise_level import check_level, check_sigma, known_sigma

_MEDIAN = 0.6744897501960817  # of |N(0, 1)|


class MatchedLevel(StoppingCriterion):
    """Stop at the first iterate with t(s_j) <= t(sigma) - margin T: s_j the level of the residual A f - y, t(.) the
    time at which a schedule has that level.

    The residual seen as a DDPM's x_t. With the rms as its level this is Morozov's rule with tau = sigma_{t - margin
    T} / sigma_t, a tau that depends on the noise level through the schedule; and it inherits its fault: the rms
    falls below sigma where MSE = 2 sigma^2 d, not where the MSE is least.

    Args:
        schedule: null for Ho's linear one.
        margin: of the T steps.
        robust: the level is median |HH| / 0.6745 of the residual's finest diagonal Haar band, which remaining structure
            hardly enters.
        sigma_255: of the noise; null for the measurement's, estimated where that is 0.
        average: judge and answer with the averaged iterate.

    Raises:
        ValueError: a margin outside [0, 1) or a sigma_255 that is not positive. Unsupported for robust with masks,
            sides of one pixel or noise that is not white.
    """

    def __init__(
        self,
        *,
        schedule: Schedule | None = None,
        margin: float = 0.002,
        robust: bool = False,
        sigma_255: float | None = None,
        average: bool = True,
    ) -> None:
        if not 0 <= margin < 1:
            raise ValueError(f"margin must lie in [0, 1), got {margin}")
        check_level(sigma_255)
        self.schedule, self.margin, self.robust, self.sigma_255, self.average = (
            schedule or Linear(),
            margin,
            robust,
            sigma_255,
            average,
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        if self.robust and (operator.mask is not None or min(operator.output_shape[1:]) < 2):
            raise Unsupported(
                "a robust level needs a complete picture as measurement: set robust to false, or take another stopping"
                " criterion"
            )
        if self.robust and noise.sigma > 0 and not noise.is_white:
            raise Unsupported(
                f"a robust level is that of white noise, and {noise!r} is not white: set robust to false, or take"
                " another stopping criterion"
            )
        check_sigma(operator, noise, self.sigma_255)

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random, iterations
        return _Watch(measurement, self, known_sigma(measurement, self.sigma_255))


class _Watch(Watch):
    signal = "time"

    def __init__(self, measurement: Measurement, options: MatchedLevel, sigma: Tensor) -> None:
        super().__init__(measurement)
        self.average, self._options = options.average, options
        schedule = options.schedule
        self._time = schedule.time_of(sigma) - options.margin * len(schedule)
        self.stopped = torch.zeros(len(measurement.y), dtype=torch.bool, device=measurement.y.device)

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        operator = self.measurement.operator
        residual = operator(average if self.average else output) - self.y
        level = haar_level(residual) if self._options.robust else _rms(residual, operator.mask)
        time = self._options.schedule.time_of(level.clamp(min=1e-12))
        first = (time <= self._time.clamp(min=0)) & ~self.stopped
        self.stopped = self.stopped | first
        self.values = {"time": time, "residual_level": level / 2}
        return Verdict(improved=first, stop=self.stopped)

    def reason(self, image: int) -> str:
        return f"the residual fell to step {float(self._time[image]):.1f} of the schedule, where the noise is"


def _rms(residual: Tensor, mask: Tensor | None) -> Tensor:
    """Over measured values, float64 [B]."""
    square = residual.double().square()
    if mask is None:
        return images_mean(square).sqrt()
    kept = mask.to(square).expand_as(square)
    return ((square * kept).flatten(1).sum(1) / kept.flatten(1).sum(1)).sqrt()


def haar_level(image: Tensor) -> Tensor:
    """median |HH| / 0.6745, HH = (a - b - c + d) / 2 over every 2 x 2 block: sigma of white Gaussian noise; the mean
    over channels, float64 [B].
    """
    height, width = (n // 2 * 2 for n in image.shape[-2:])
    x = image[..., :height, :width].double()
    diagonal = (x[..., ::2, ::2] - x[..., ::2, 1::2] - x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 2
    return diagonal.abs().flatten(2).quantile(0.5, dim=2).mean(1) / _MEDIAN
