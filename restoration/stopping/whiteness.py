"""Stop where the residual looks most like white noise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Unsupported
from restoration.stopping.base import Patience, StoppingCriterion, Verdict, Watch


class ResidualWhiteness(StoppingCriterion):
    """W = sum over 0 < |D|_inf <= lag of rho_D^2, rho the normalised autocorrelation of the residual A f - y; stop
    where it is least.

    Early the residual holds structure (positive correlations), late it has lost its low frequencies (negative ones).
    Needs no sigma, but white noise; judged on the raw iterate, whose residual crosses from one to the other. The
    mean over channels.

    Args:
        lag: the largest shift.
        patience: iterations without a whiter residual after which the fit ends (default 300).
        smooth: iterations that W is averaged over.
        average: answer with the averaged iterate.
        average_residual: judge its residual (fails, for comparison).

    Raises:
        ValueError: a lag or patience below 1. Unsupported for measurements that are no pictures or have masks.
    """

    def __init__(
        self,
        *,
        lag: int = 4,
        patience: int = 300,
        smooth: int = 20,
        average: bool = True,
        average_residual: bool = False,
    ) -> None:
        if lag < 1 or patience < 1 or smooth < 1:
            raise ValueError(f"lag, patience and smooth must be at least 1, got {lag}, {patience} and {smooth}")
        self.lag, self.patience, self.smooth, self.average, self.average_residual = (
            lag,
            patience,
            smooth,
            average,
            average_residual,
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        if (
            operator.mask is not None
            or len(operator.output_shape) != 3
            or min(operator.output_shape[1:]) <= 2 * self.lag
        ):
            raise Unsupported(
                f"whiteness needs a complete picture of more than {2 * self.lag} pixels a side as measurement: take"
                " another stopping criterion"
            )

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random, iterations
        return _Watch(measurement, self)


class _Watch(Watch):
    signal = "correlation"

    def __init__(self, measurement: Measurement, options: ResidualWhiteness) -> None:
        super().__init__(measurement)
        self.average, self._options = options.average, options
        self.least = Patience(len(measurement.y), options.patience, measurement.y.device)
        self.ring = torch.zeros(len(measurement.y), options.smooth, dtype=torch.float64, device=measurement.y.device)

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        residual = self.measurement.operator(average if self._options.average_residual else output) - self.y
        found = correlation(residual, self._options.lag)
        self.ring[:, iteration % self._options.smooth] = found
        judged = torch.full_like(found, iteration >= self._options.smooth, dtype=torch.bool)
        self.least.update(iteration, self.ring.mean(1), judged)
        self.values = {self.signal: found}
        return Verdict(self.least.improved, self.least.stopped)

    def reason(self, image: int) -> str:
        return f"the residual had not become whiter for {self.least.patience} iterations"


def correlation(e: Tensor, lag: int) -> Tensor:
    """sum over 0 < |D|_inf <= lag of rho_D^2 of e [B, C, H, W], the mean over channels: float64 [B]; about ((2 lag +
    1)^2 - 1) / N for white noise.
    """
    e = e.double() - e.double().mean((2, 3), keepdim=True)
    height, width = e.shape[-2:]
    spectrum = torch.fft.rfft2(F.pad(e, (0, lag, 0, lag)))
    auto = torch.fft.irfft2(spectrum.abs().square(), s=(height + lag, width + lag))
    rho = auto / auto[..., :1, :1].clamp(min=1e-30)
    rows = [*range(lag + 1), *range(height, height + lag)]
    columns = [*range(lag + 1), *range(width, width + lag)]
    near = rho[..., rows, :][..., columns]
    return (near.square().sum((2, 3)) - 1).mean(1)
