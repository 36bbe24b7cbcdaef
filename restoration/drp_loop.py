"""The loop of deep restoration priors: the prior pulls by what it would change, then the data have their say."""

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.linear import pseudo_inverse
from degradations.measurement import Measurement
from restoration.base import Cost, Method, OnStep, Restoration


class DRPLoop(Method):
    """z = x - step (x - R(H x)), x = argmin_x |y - A x|^2 + weight |x - z|^2 in the metric of H^T H; see the leaves."""

    needs_prior = True
    deterministic = True
    needs = frozenset({"proximal"})

    def __init__(self, *, iterations: int, step: float, weight: float) -> None:
        if iterations < 1 or not (0 < step <= 1 and 0 < weight < math.inf):
            raise ValueError(
                "iterations must be at least 1, step lie in (0, 1] and weight be positive and finite, got"
                f" {iterations}, {step} and {weight}"
            )
        self.iterations, self.move, self.weight = iterations, step, weight

    def calls(self) -> Cost:
        return Cost(nfe=self.iterations)

    @abstractmethod
    def prepare(self, measurement: Measurement) -> Any:
        """What R and H need of a measurement."""

    @abstractmethod
    def restored(self, prepared: Any, x: Tensor) -> Tensor:
        """R(H x)."""

    @abstractmethod
    def nearest(self, prepared: Any, operator: Operator, z: Tensor, y: Tensor) -> Tensor:
        """The image that explains y and is near z."""

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del num_samples, random
        self.check(measurement.operator, measurement.noise)
        operator, y, prepared = measurement.operator, measurement.y, self.prepare(measurement)
        x, change = pseudo_inverse(operator, y), []
        for i in range(self.iterations):
            z = x - self.move * (x - self.restored(prepared, x))
            before, x = x, self.nearest(prepared, operator, z, y)
            change.append((x - before).flatten(1).norm(dim=1).mean())
            if on_step is not None:
                on_step(i, self.iterations, x)
        return Restoration(samples=x[:, None], cost=self.calls(), trace={"change": torch.stack(change).tolist()})
