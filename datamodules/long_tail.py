"""Long-tailed sets: of each class fewer images than of the one before it, so that what is rare is known."""

import math

import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams


def long_tailed_rows(label: Tensor, ratio: float, seed: int) -> Tensor:
    """Rows that are kept, ascending: of class c of C floor(n ratio^(-c / (C - 1))), n = the number of images of the
    smallest class, so that the first class keeps `ratio` times as many as the last.

    The first of a permutation of each class that depends on the seed and the class alone, so that a smaller ratio
    keeps a superset. Cui et al. 2019 (1901.05555), section 5.1: 12,406 of CIFAR-10's 50,000 images for a ratio of 100.

    Args:
        label: int64 [N], 0 .. C - 1.
        ratio: of the largest to the smallest class, at least 1, which keeps equally many of all.
        seed: of the permutations.

    Raises:
        UserError: images without a label, one class alone, a class of which nothing would be left.
    """
    if not 1 <= ratio < math.inf:
        raise UserError(f"long_tail must be at least 1 and finite, got {ratio}")
    classes = int(label.max()) + 1 if len(label) else 0
    counts = torch.bincount(label.clamp(min=0), minlength=classes)
    if classes < 2 or int(label.min()) < 0 or int(counts.min()) == 0:
        raise UserError(f"long_tail={ratio:g} needs images of two labelled classes or more: leave it out")
    least, rows = int(counts.min()), []
    for c in range(classes):
        kept = math.floor(least * ratio ** (-c / (classes - 1)) + 1e-9)  # 50 is not to become 49
        if kept < 1:
            raise UserError(
                f"long_tail={ratio:g} leaves nothing of class {c}, whose set has {least} images a class: take at most"
                f" {least}"
            )
        own = (label == c).nonzero()[:, 0]
        order = RandomStreams(seed).generator("long tail", c).permutation(len(own))
        rows.append(own[torch.from_numpy(order[:kept])])
    return torch.cat(rows).sort().values
