"""Metrics as a newcomer would write them, one of each kind: used by their class path, named nowhere else."""

import os
from pathlib import Path

import torch
from torch import Tensor

from metrics.base import Column, DistributionMetric, Metric, Missing, SetMetric
from metrics.features import Features
from metrics.jackknife import Estimate


class Brightness(Metric):
    """mean x, in grey levels, with two parts of which tables show the sum.

    Args:
        gain: of the number.
    """

    label = "brightness"
    unit = "<grey>"
    higher_is_better = True
    parts = ("left", "right")

    def __init__(self, *, gain: float = 1.0) -> None:
        self.gain = gain

    def columns(self, name: str) -> tuple[Column, ...]:
        return (Column(name, self.label, self.unit, True, of_means=lambda means: means[0] + means[1]),)

    def check(self, shape) -> None:
        if shape[1] > 24:
            raise Missing(f"images of {shape[1]} rows are too high")

    def __call__(self, pixels: Tensor, truth: Tensor, measurement) -> Tensor:
        halves = pixels.double().tensor_split(2, dim=3)
        return self.gain * torch.stack([half.mean((1, 2, 3)) for half in halves], 1)


class Weighted(Metric):
    """mean (w x) with a weight from the file that TOY_WEIGHTS names."""

    label = "weighted"

    def __init__(self) -> None:
        self.weight: float | None = None

    def _file(self) -> Path:
        path = Path(os.environ["TOY_WEIGHTS"])
        if not path.is_file():
            raise Missing(f"its weights are not there: put '{path.name}' into WEIGHTS_DIR")
        return path

    def check(self, shape) -> None:
        self._file()

    def to(self, device):
        self.weight = float(self._file().read_text())
        return self

    def weights(self) -> str:
        return self._file().read_text()

    def __call__(self, pixels: Tensor, truth: Tensor, measurement) -> Tensor:
        return self.weight * pixels.double().mean((1, 2, 3))


class Residual(SetMetric):
    """sqrt(mean over samples and values of (A x - y)^2)."""

    label = "residual of samples"
    needs_measurement = True

    def __call__(self, samples: Tensor, truth: Tensor, measurement) -> Tensor:
        residual = measurement.operator(samples[:, 0].float() / 127.5 - 1) - measurement.y
        return residual.double().square().mean((1, 2, 3)).sqrt()


class MeanShift(DistributionMetric):
    """|mean f(x) - mean f(y)|^2.

    Args:
        features: the network.
    """

    label = "mean shift"
    higher_is_better = False
    least = 6
    note = "Mean shift is simple."

    def distance(self, found: Features, reference: Features, paired: bool) -> Estimate:
        value = float((found.features.double().mean(0) - reference.features.double().mean(0)).square().sum())
        return Estimate(value, value, value)
