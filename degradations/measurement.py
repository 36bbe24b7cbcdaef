"""Measurement(y, operator, noise, index, truth): what a restoration method is given."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from common.shapes import image_shape
from degradations.base import Degradation, Operator
from degradations.noise import Noise


@dataclass(frozen=True)
class Measurement:
    """y = A x + n: one batch of one shape.

    Args:
        y: float32 [B, *operator.output_shape], in the units of images in [-1, 1].
        operator: A.
        noise: knows its sigma.
        index: the B image indices, which the random streams of a method are keyed by.
        truth: x [B, C, H, W], for the oracle rows alone; None for a person's own picture.

    Raises:
        ValueError: where shapes do not fit; warns where y lies further outside the operator's range than 6 sigma.
    """

    y: Tensor
    operator: Operator
    noise: Noise
    index: tuple[int, ...]
    truth: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if tuple(self.y.shape[1:]) != tuple(self.operator.output_shape):
            raise ValueError(
                f"y must have shape [B, {', '.join(map(str, self.operator.output_shape))}], got {list(self.y.shape)}"
            )
        if len(self.index) != len(self.y):
            raise ValueError(f"index must have one entry per image, got {len(self.index)} for {len(self.y)} images")
        if self.truth is not None and tuple(self.truth.shape) != (len(self.y), *self.operator.input_shape):
            raise ValueError(
                f"truth must have shape {[len(self.y), *self.operator.input_shape]}, got {list(self.truth.shape)}"
            )
        if not torch.isfinite(self.y).all():
            raise ValueError("y has values that are not finite (NaN or infinity)")
        low, high = self.operator.output_range
        slack = self.noise.reach + 1e-3
        least, most = float(self.y.min()), float(self.y.max())
        if least < low - slack or most > high + slack:
            warnings.warn(
                f"y spans [{least:.3g}, {most:.3g}], more than 6 sigma beyond the operator's range [{low:.3g},"
                f" {high:.3g}]: is it in [-1, 1] units, and is sigma right?"
            )

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise in [-1, 1] units."""
        return self.noise.sigma

    def pick(self, rows: Sequence[int]) -> "Measurement":
        """These images of the batch, in this order."""
        rows = list(rows)
        truth = None if self.truth is None else self.truth[rows]
        return replace(
            self,
            y=self.y[rows],
            operator=self.operator.pick(rows),
            index=tuple(self.index[r] for r in rows),
            truth=truth,
        )

    def repeat(self, num_samples: int) -> "Measurement":
        """The measurement of B * num_samples chains, image-major ([i0, i0, i1, i1]): each image's row num_samples
        times. Row r is sample r % num_samples of its image; itself for one sample.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        if num_samples == 1:
            return self
        truth = None if self.truth is None else self.truth.repeat_interleave(num_samples, 0)
        return replace(
            self,
            y=self.y.repeat_interleave(num_samples, 0),
            operator=self.operator.repeat(num_samples),
            index=tuple(i for i in self.index for _ in range(num_samples)),
            truth=truth,
        )

    def without_truth(self) -> "Measurement":
        """The same measurement for methods that may not read the truth."""
        return replace(self, truth=None)


def measure(
    x: Tensor, *, degradation: Degradation, noise: Noise, index: Sequence[int], random: RandomStreams
) -> Measurement:
    """y = A x + n for images x [B, C, H, W] in [-1, 1] with these indices; A and n are functions of (seed, image index)
    alone.
    """
    index = tuple(int(i) for i in index)
    operator = degradation.operator_for(image_shape(x.shape[1:]), index, random).to(x.device)
    y = noise.add(operator(x), index, random)
    if operator.mask is not None:
        # a missing pixel is not measured: no noise there either, or every residual y - A x would count it
        y = y * operator.mask
    return Measurement(y=y, operator=operator, noise=noise, index=index, truth=x)
