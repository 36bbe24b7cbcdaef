"""Distances between features, and the nearest of a set."""

import torch
from torch import Tensor

CHUNK = 1024  # rows of a matrix of distances that are there at a time


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 [n, m] of float64 rows; what rounding alone could make of equal rows is 0, so that equal images are
    equal.
    """
    size = a.square().sum(1)[:, None] + b.square().sum(1)
    squares = size - 2 * a @ b.T
    return squares.masked_fill_(squares < 1e-13 * size, 0)


def nearest(points: Tensor, others: Tensor, k: int, *, leave: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distances [n, k], ascending, and rows [n, k] of the k nearest others of each point, both float64 about one mean.

    leave: for each point a row of the others that does not count, as a point itself where it is one of them.
    """
    squares, rows = [], []
    for start in range(0, len(points), CHUNK):
        part = squared_distances(points[start : start + CHUNK], others)
        if leave is not None:
            part.scatter_(1, leave[start : start + CHUNK, None], torch.inf)
        found = part.topk(k, dim=1, largest=False)
        squares.append(found.values)
        rows.append(found.indices)
    return torch.cat(squares).sqrt(), torch.cat(rows)
