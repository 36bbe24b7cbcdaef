"""Families whose D(x, t) acts on rows and columns by one small matrix per severity: X -> R_t X C_t^T."""

from abc import abstractmethod

import torch
from torch import Tensor

from degradations.base import Operator, Params, Shape
from degradations.separable import Separable
from degradations.severity.base import DegradedBy, DeviceTable, SeverityFamily

THRESHOLD = 3e-2  # of the pseudo-inverse: as DDRM, Kawar et al. 2022


class SeparableFamily(SeverityFamily):
    """D(X, t) = R_t X C_t^T for every channel X [H, W]: two matrix products, whatever t is.

    Args:
        truncate: a degraded image keeps only 8 bits, floor((x + 1) / 2 * 255) of each pixel, as the released code does
            for some tasks; then it is not linear.
    """

    def __init__(self, *, truncate: bool = False) -> None:
        self.truncate, self.linear = truncate, not truncate
        self._tables: dict[int, DeviceTable] = {}

    @abstractmethod
    def matrices(self, side: int) -> Tensor:
        """R_0 .. R_T, float64 [T + 1, side, side], R_0 = I."""

    def table(self, side: int) -> DeviceTable:
        """`matrices`, made once."""
        if side not in self._tables:
            self._tables[side] = DeviceTable(self.matrices(side))
        return self._tables[side]

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        del params
        rows, columns = (self.table(side).like(x)[t][:, None] for side in x.shape[2:])
        y = rows @ x @ columns.mT
        return truncated(x, y, t) if self.truncate else y

    def operator(self, t: int, params: Params, shape: Shape) -> Operator:
        rows, columns = (self.table(side).values[t] for side in shape[1:])
        separable = Separable(rows, columns, channels=shape[0], threshold=THRESHOLD, description=self.description)
        if self.linear:
            return separable
        low, high = separable.output_range
        return DegradedBy(self, t, params, shape, (low - 2 / 255, high))  # what is cut to 8 bits is a level lower


def truncated(x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """y cut to 8 bits where t > 0, x itself where t = 0."""
    return torch.where((t > 0).view(-1, *[1] * (x.ndim - 1)), quantised(y), x)


def quantised(y: Tensor) -> Tensor:
    """floor((y + 1) / 2 * 255) / 255 * 2 - 1: 8 bits by truncation."""
    return ((y + 1) / 2 * 255).floor() / 255 * 2 - 1
