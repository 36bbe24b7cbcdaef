"""Stop where the residual is as large as the noise: the discrepancy principle."""

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.stopping.base import StoppingCriterion, Verdict, Watch, images_mean
from restoration.stopping.noise_level import check_level, check_sigma, known_sigma


class Morozov(StoppingCriterion):
    """Stop at the first iterate with mean((A f - y)^2) <= tau^2 sigma^2, over measured values. Morozov 1966.

    Exact only where the iterate has memorised as much noise as it lacks signal (MSE = 2 sigma^2 d); needs sigma to a
    few per cent.

    Args:
        tau: of the threshold; 0.97 suits the averaged iterate, 1 the raw one.
        sigma_255: of the noise; null for the measurement's, estimated where that is 0.
        average: judge and answer with the averaged iterate.

    Raises:
        ValueError: a tau or sigma_255 that is not positive; Unsupported where sigma is unknown and y is no picture that
            it could be estimated from.
    """

    def __init__(self, *, tau: float = 0.97, sigma_255: float | None = None, average: bool = True) -> None:
        if not tau > 0:
            raise ValueError(f"tau must be positive, got {tau}")
        check_level(sigma_255)
        self.tau, self.sigma_255, self.average = tau, sigma_255, average

    def check(self, operator: Operator, noise: Noise) -> None:
        check_sigma(operator, noise, self.sigma_255)

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random, iterations
        return _Watch(measurement, self.tau * known_sigma(measurement, self.sigma_255), self.average)


class _Watch(Watch):
    signal = "residual"

    def __init__(self, measurement: Measurement, threshold: Tensor, average: bool) -> None:
        super().__init__(measurement)
        self.average, self.threshold = average, threshold.square() / 4
        self.stopped = torch.zeros(len(measurement.y), dtype=torch.bool, device=measurement.y.device)

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        operator = self.measurement.operator
        square = (operator(average if self.average else output) - self.y).square() / 4
        mask = operator.mask
        residual = (
            images_mean(square)
            if mask is None
            else images_mean(square * mask.to(square)) / images_mean(mask.to(square).expand_as(square))
        )
        first = (residual <= self.threshold) & ~self.stopped
        self.stopped = self.stopped | first
        self.values = {self.signal: residual}
        return Verdict(improved=first, stop=self.stopped)

    def reason(self, image: int) -> str:
        return f"the residual fell to the noise, {255 * float(self.threshold[image]) ** 0.5:.3g} of 255"
