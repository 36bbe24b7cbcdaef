"""Fixed splits: which rows are held out depends on a seed or on names, never on the order of events."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from common.random_streams import RandomStreams


def held_out_rows(n: int, count: int, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Rows (held out, rest) of n, both ascending: the first `count` of a permutation drawn from (seed, purpose) are
    held out.
    """
    order = torch.from_numpy(RandomStreams(seed).generator(purpose, 0).permutation(n))
    return order[:count].sort().values, order[count:].sort().values


def held_out_by_name(names: Sequence[str], count: int) -> tuple[Tensor, Tensor]:
    """Rows (held out, rest), both ascending: the `count` names with the smallest hash are held out.

    A file that is added or removed later changes hardly any other file's part, as a permutation of rows would.
    """
    order = sorted(
        range(len(names)), key=lambda row: hashlib.blake2b(names[row].encode(errors="surrogateescape")).digest()
    )
    order = torch.tensor(order, dtype=torch.int64)
    return order[:count].sort().values, order[count:].sort().values
