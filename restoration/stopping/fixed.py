"""Stop after a number of iterations that somebody chose: the baseline."""

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.stopping.base import StoppingCriterion, Verdict, Watch


class FixedIterations(StoppingCriterion):
    """The answer is the iterate number `iterations`, 1800 in the paper's denoising of sigma_255 = 25 at 512 x 512
    (1711.10925).

    Args:
        iterations: how many, at least 1 (default 1800, the published number for denoising).
        average: answer with the averaged iterate instead of the raw one.

    Raises:
        ValueError: less than one iteration.
    """

    def __init__(self, *, iterations: int = 1800, average: bool = True) -> None:
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.iterations, self.average = iterations, average

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random
        return _Watch(measurement, min(self.iterations, iterations), self.average)


class _Watch(Watch):
    def __init__(self, measurement: Measurement, limit: int, average: bool) -> None:
        super().__init__(measurement)
        self.limit, self.average = limit, average

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        now = torch.full((len(output),), iteration == self.limit, device=output.device)
        return Verdict(improved=now, stop=torch.full_like(now, iteration >= self.limit))

    def reason(self, image: int) -> str:
        return f"{self.limit} iterations were asked for"
