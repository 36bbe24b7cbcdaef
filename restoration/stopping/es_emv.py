"""Stop where the outputs vary least: the exponential moving variance of Wang et al., without a window."""

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.stopping.base import Patience, StoppingCriterion, Verdict, Watch


class ESEMV(StoppingCriterion):
    """EMA <- clip(EMA + alpha d, 0, 1), EMV <- (1 - alpha)(EMV + alpha |d|^2) with d = f - EMA in [0, 1] units; the
    answer is where EMV is least.

    Wang et al. 2021 (2112.06074): alpha 0.1, only iterations after 100 are judged, patience 1000. One image of
    memory.

    Args:
        alpha: share of the newest output in the averages, in (0, 1) (default 0.1, as published).
        patience: iterations without a lower variance after which the fit ends (default 1000, as published).
        after: iterations that are not judged at the start (default 100, as published).
        average: answer with the averaged iterate at that iteration, else the raw one (their own average, of about 10
            outputs, lies between the two).

    Raises:
        ValueError: an alpha outside (0, 1) or a patience below 1.
    """

    def __init__(self, *, alpha: float = 0.1, patience: int = 1000, after: int = 100, average: bool = True) -> None:
        if not 0 < alpha < 1 or patience < 1 or after < 0:
            raise ValueError(
                f"alpha must lie in (0, 1), patience be at least 1 and after at least 0, got {alpha}, {patience},"
                f" {after}"
            )
        self.alpha, self.patience, self.after, self.average = alpha, patience, after, average

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random, iterations
        return _Watch(measurement, self.alpha, self.patience, self.after, self.average)


class _Watch(Watch):
    signal = "variance"

    def __init__(self, measurement: Measurement, alpha: float, patience: int, after: int, average: bool) -> None:
        super().__init__(measurement)
        self.alpha, self.after, self.average = alpha, after, average
        self.least = Patience(len(measurement.y), patience, measurement.y.device)
        self.mean: Tensor | None = None
        self.variance = torch.zeros(len(measurement.y), dtype=torch.float64, device=measurement.y.device)

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        newest = (output.double() + 1) / 2
        if self.mean is None:
            self.mean = newest
        step = newest - self.mean
        self.mean = (self.mean + self.alpha * step).clamp(0, 1)
        self.variance = (1 - self.alpha) * (self.variance + self.alpha * step.square().flatten(1).sum(1))
        judged = torch.full_like(self.variance, iteration > self.after, dtype=torch.bool)
        self.least.update(iteration, self.variance, judged)
        self.values = {self.signal: self.variance}
        return Verdict(self.least.improved, self.least.stopped)

    def reason(self, image: int) -> str:
        return f"the moving variance of the outputs had not fallen for {self.least.patience} iterations"
