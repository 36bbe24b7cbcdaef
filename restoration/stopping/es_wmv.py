"""Stop where the outputs vary least: the windowed moving variance of Wang et al."""

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.stopping.base import Patience, StoppingCriterion, Verdict, Watch, images_mean


class ESWMV(StoppingCriterion):
    """VAR_j = (1 / W) sum_w |f_w - mean f|^2 / N over the last W raw outputs; the answer is where it is least, after
    `patience` iterations without less.

    The variance falls while the image appears and rises when noise is fitted. Needs neither sigma nor truth. Kept as
    running sums in float64 beside a ring of the last W outputs. Wang et al. 2021 (2112.06074), algorithm 1; the
    signal is judged in [0, 1] units.

    Args:
        window: W.
        patience: iterations.
        average: answer with the averaged iterate at that iteration (the paper answers with the raw one).

    Raises:
        ValueError: a window below 2 or a patience below 1.
    """

    def __init__(self, *, window: int = 100, patience: int = 1000, average: bool = True) -> None:
        if window < 2 or patience < 1:
            raise ValueError(f"window must be at least 2 and patience at least 1, got {window} and {patience}")
        self.window, self.patience, self.average = window, patience, average

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random, iterations
        return _Watch(measurement, self.window, self.patience, self.average)


class _Watch(Watch):
    signal = "variance"

    def __init__(self, measurement: Measurement, window: int, patience: int, average: bool) -> None:
        super().__init__(measurement)
        self.window, self.average = window, average
        self.least = Patience(len(measurement.y), patience, measurement.y.device)
        self.ring: list[Tensor] = []
        self.sum: Tensor | None = None
        self.squares: Tensor | None = None

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        newest = ((output + 1) / 2).clone()
        square = images_mean(newest.square())
        self.sum = newest.double() if self.sum is None else self.sum + newest
        self.squares = square if self.squares is None else self.squares + square
        self.ring.append(newest)
        if len(self.ring) > self.window:
            oldest = self.ring.pop(0)
            self.sum = self.sum - oldest
            self.squares = self.squares - images_mean(oldest.square())
        full = len(self.ring) == self.window
        variance = self.squares / self.window - images_mean((self.sum / self.window).square())
        value = variance.clamp(min=0) if full else torch.full_like(variance, torch.inf)
        self.least.update(iteration, value)
        self.values = {self.signal: value}
        return Verdict(self.least.improved, self.least.stopped)

    def reason(self, image: int) -> str:
        return f"the variance of the last {self.window} outputs had not fallen for {self.least.patience} iterations"
