"""Some measured pixels are kept from the fit and ask whether it still learns the picture."""

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Unsupported
from restoration.stopping.base import StoppingCriterion, Watch
from restoration.stopping.staged import StagedWatch, StageOptions, Target


class HeldOutPixels(StoppingCriterion):
    """V = mean over held-out pixels of (A f - y)^2, whose mean is their error + sigma^2 for noise that is independent
    between pixels; stop where it is least.

    Needs no sigma. Held-out pixels are interpolated, so V reads a little high and is least a little early; where
    noise is correlated between pixels it is learned with them, and V never rises.

    Args:
        fraction: of the measured pixels, all channels of a pixel together.
        patience: iterations without a lower error of the held-out pixels after which a stage ends.
        smooth: iterations that the error is averaged over; its minimum is taken in their middle.
        second_pass: afterwards fit all pixels for kappa times the best iteration.
        kappa: iterations of the second pass over those of the best of the first, in 0.5 .. 3 (default 1.1: all pixels
            take a little longer).
        average: judge and answer with the averaged iterate (true, default) or the raw one.

    Raises:
        ValueError: a fraction outside (0, 0.5]; Unsupported where fewer than two pixels were measured.
    """

    def __init__(
        self,
        *,
        fraction: float = 0.1,
        patience: int = 200,
        smooth: int = 20,
        second_pass: bool = False,
        kappa: float = 1.1,
        average: bool = True,
    ) -> None:
        if not 0 < fraction <= 0.5:
            raise ValueError(f"fraction must lie between 0 and 0.5, got {fraction}")
        self.fraction = fraction
        self.stages = StageOptions(
            patience=patience, smooth=smooth, second_pass=second_pass, kappa=kappa, average=average
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        mask = operator.mask
        if (
            operator.output_shape[1] * operator.output_shape[2] if mask is None else float(mask.flatten(1).sum(1).min())
        ) < 2:
            raise Unsupported(
                "held-out pixels need at least two that were measured, one to fit and one to ask: take another stopping"
                " criterion"
            )

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        y, mask = measurement.y, measurement.operator.mask
        drawn = torch.stack([random.uniform("held_out", i, 0, (1, *y.shape[2:])) for i in measurement.index]).to(
            y.device
        )
        measured = torch.ones_like(drawn) if mask is None else mask.to(y).expand_as(drawn)
        held = (drawn < self.fraction).to(y) * measured
        # At least one pixel, or there is nothing to ask; and not all, or there is nothing to fit.
        first = drawn + 2 * (1 - measured.to(drawn))
        fewest = (first == first.amin(tuple(range(1, first.ndim)), keepdim=True)).to(y)
        count = held.flatten(1).sum(1)
        some = (count > 0) & (count < measured.flatten(1).sum(1))
        held = torch.where(some.view(-1, *[1] * (held.ndim - 1)), held, fewest)
        return _Watch(measurement, held, self.stages, iterations)


class _Watch(StagedWatch):
    signal = "held_out_error"
    told = ("the error of the held-out pixels", "the other pixels")

    def __init__(self, measurement: Measurement, held: Tensor, options: StageOptions, iterations: int) -> None:
        self._held = held
        ones = torch.ones(len(measurement.y), dtype=torch.float64, device=measurement.y.device)
        super().__init__(
            measurement, [Target(measurement.y, 1 - held, ones)], options, iterations=iterations, own_variance=ones
        )

    def judge(self, f: Tensor) -> dict[str, Tensor]:
        square = (self.measurement.operator(f) - self.measurement.y).square() / 4
        held = self._held.expand_as(square)
        return {
            self.signal: (square * held).double().flatten(1).sum(1) / held.double().flatten(1).sum(1),
            "stage": self.stage.double(),
        }
