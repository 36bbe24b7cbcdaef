"""Stop where the outputs vary least: the windowed moving variance of Wang et al."""

from typing import Any

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.stopping.base import Patience, StoppingCriterion, Verdict, Watch, images_mean


class ESWMV(StoppingCriterion):
    """VAR_j = (1 / W) sum_w |f_w - mean f|^2 / N over the last W raw outputs; the answer is where it is least, after
    `patience` iterations without less.

    The variance falls while the image appears and rises when noise is fitted. Needs neither sigma nor truth. Moved
    along with the window in float64, without the difference of two large sums, and taken anew from the last W outputs
    every W iterations: where the outputs settle it goes on falling to the last digit. Wang et al. 2021 (2112.06074),
    algorithm 1; the signal is judged in [0, 1] units.

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
        self.mean: Tensor | None = None
        self.spread = torch.zeros(len(measurement.y), dtype=torch.float64, device=measurement.y.device)

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        # Halved, which is exact, instead of (output + 1) / 2: the variance is the same, and nothing is rounded.
        newest = output / 2
        self.ring.append(newest)
        newest = newest.double()
        before = newest if self.mean is None else self.mean
        if len(self.ring) > self.window:
            oldest = self.ring.pop(0).double()
            step = newest - oldest
            self.mean = before + step / self.window
            # W var' - W var of a window that lost one value and gained another, each term as small as the change.
            self.spread = self.spread + images_mean(step * (newest - self.mean + oldest - before))
        else:
            step = newest - before
            self.mean = before + step / len(self.ring)
            self.spread = self.spread + images_mean(step * (newest - self.mean))
        if iteration % self.window == 0:  # what was rounded while the variance was larger goes
            self.mean, self.spread = _of_window(self.ring)
        value = (self.spread / self.window).clamp(min=0)
        if len(self.ring) < self.window:
            value = torch.full_like(value, torch.inf)
        self.least.update(iteration, value)
        self.values = {self.signal: value}
        return Verdict(self.least.improved, self.least.stopped)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "squares" in state:  # until November 2026: outputs in [0, 1] and two running sums
            state = {k: v for k, v in state.items() if k not in ("sum", "squares")}
            state["ring"] = [output - 0.5 for output in state["ring"]]
            if state["ring"]:
                state["mean"], state["spread"] = _of_window(state["ring"])
        super().load_state_dict(state)

    def reason(self, image: int) -> str:
        return f"the variance of the last {self.window} outputs had not fallen for {self.least.patience} iterations"


def _of_window(ring: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean of W outputs and W times their variance, the mean over pixels, [B]: by definition."""
    mean = sum((x.double() for x in ring[1:]), ring[0].double()) / len(ring)
    spread = torch.zeros(len(mean), dtype=torch.float64, device=mean.device)
    for x in ring:
        spread = spread + images_mean((x - mean).square())
    return mean, spread
