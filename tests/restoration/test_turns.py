"""Turns and mirrors."""

import torch

from restoration.turns import turned, turned_back


def test_they_come_back_and_are_eight():
    x = torch.rand(1, 2, 3, 5)
    assert all(torch.equal(turned_back(turned(x, k), k), x) for k in range(8))
    assert len({tuple(turned(x, k).flatten().tolist()) for k in range(8)}) == 8
