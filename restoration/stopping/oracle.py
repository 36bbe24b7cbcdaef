"""The best iterate there was, which only the truth knows: the bound for all others."""

from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.stopping.base import Patience, StoppingCriterion, Verdict, Watch, images_mean


class Oracle(StoppingCriterion):
    """argmin_j |f_j - x|^2: reads the truth, so it is starred in every table.

    Args:
        patience: how long it waits for a better one; null for all iterations.
        average: judge and answer with the averaged iterate. Without a truth: ValueError.
    """

    uses_truth = True

    def __init__(self, *, patience: int | None = None, average: bool = True) -> None:
        if patience is not None and patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.patience, self.average = patience, average

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random
        if measurement.truth is None:
            raise ValueError("the oracle needs the truth: take another stopping criterion for a picture of one's own")
        return _Watch(measurement, self.patience or iterations + 1, self.average)


class _Watch(Watch):
    signal = "psnr_to_truth"

    def __init__(self, measurement: Measurement, patience: int, average: bool) -> None:
        super().__init__(measurement)
        self.average = average
        self.least = Patience(len(measurement.y), patience, measurement.y.device)

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        truth = self.measurement.truth
        assert truth is not None  # `watch` refuses a measurement without
        error = images_mean(((average if self.average else output) - truth).square() / 4)
        self.least.update(iteration, error)
        self.values = {self.signal: -10 * error.clamp(min=1e-10).log10()}
        return Verdict(self.least.improved, self.least.stopped)

    def reason(self, image: int) -> str:
        return f"the error to the truth had not fallen for {self.least.patience} iterations"
