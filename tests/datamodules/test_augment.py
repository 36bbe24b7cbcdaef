"""Flips: fair, independent, repeatable."""

import pytest
import torch

from datamodules.augment import coin, flip_at_random


def splitmix64(x: int) -> int:
    """The published generator's output function in Python integers (Steele, Lea, Flood 2014, figure 17)."""
    mask = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 5), (-3, 7), (2**70, 10**6)])
def test_coin_is_the_top_bit_of_the_hash(seed, epoch):
    index = torch.tensor([0, 1, 2, 59999, 2**40])
    base = splitmix64(splitmix64(seed & (2**64 - 1)) + epoch & (2**64 - 1))
    expected = [splitmix64((i + base) & (2**64 - 1)) >> 63 == 1 for i in index.tolist()]
    assert coin(seed, epoch, index).tolist() == expected


def test_coin_is_fair_and_independent():
    index = torch.arange(20000)
    coins = torch.stack([coin(seed, epoch, index) for seed in range(3) for epoch in range(4)]).double()
    assert (coins.mean(1) - 0.5).abs().max() < 4.5 * 0.5 / 20000**0.5  # 4.5 standard deviations
    correlation = torch.corrcoef(coins) - torch.eye(12)
    assert correlation.abs().max() < 4.5 / 20000**0.5
    neighbours = torch.corrcoef(torch.stack([coins[0, :-1], coins[0, 1:]]))[0, 1]
    assert neighbours.abs() < 4.5 / 20000**0.5


def test_flip_mirrors_the_width_of_whole_images():
    x, index = torch.randn(64, 3, 4, 5), torch.arange(64)
    y = flip_at_random(x, index, seed=1, epoch=2)
    flips = coin(1, 2, index)
    assert 0 < flips.sum() < 64
    assert torch.equal(y[flips], x[flips].flip(-1)) and torch.equal(y[~flips], x[~flips])
    order = torch.randperm(64)
    assert torch.equal(flip_at_random(x[order], index[order], seed=1, epoch=2), y[order])
