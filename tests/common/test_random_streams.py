import numpy as np
import pytest
import torch

from common.random_streams import RandomStreams


def test_a_key_gives_the_same_values_always_and_other_keys_others():
    r = RandomStreams(3)
    a = r.normal("s", 5, 1, (2, 4))
    assert torch.equal(a, RandomStreams(3).normal("s", 5, 1, (2, 4)))
    for other in (
        r.normal("t", 5, 1, (2, 4)),
        r.normal("s", 6, 1, (2, 4)),
        r.normal("s", 5, 2, (2, 4)),
        RandomStreams(4).normal("s", 5, 1, (2, 4)),
    ):
        assert not torch.equal(a, other)


def test_the_global_generators_are_neither_read_nor_moved():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    a = RandomStreams(0).normal("s", 0, 0, (8,))
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    torch.manual_seed(1)
    assert torch.equal(a, RandomStreams(0).normal("s", 0, 0, (8,)))


def test_a_batch_is_its_rows_in_any_order():
    r = RandomStreams(0)
    batch = r.normal_batch("s", [4, 2, 4], [0, 0, 1], (3,))
    assert torch.equal(
        batch, torch.stack([r.normal("s", 4, 0, (3,)), r.normal("s", 2, 0, (3,)), r.normal("s", 4, 1, (3,))])
    )
    assert torch.equal(r.normal_batch("s", torch.tensor([2]), [0], (3,))[0], batch[1])


def test_a_sequence_does_not_depend_on_the_neighbours():
    r = RandomStreams(0)
    with r.sequence("s", [7, 8, 9], [0, 0, 0], (2, 2)) as many, r.sequence("s", [8], [0], (2, 2)) as one:
        for _ in range(5):
            assert torch.equal(many.next()[1:2], one.next())
    with pytest.raises(RuntimeError, match="closed"):
        one.next()


def test_moments():
    """Mean within 5 and variance within 5 standard errors of 200,000 values (1/sqrt(n) and sqrt(2/n))."""
    z = RandomStreams(1).normal("m", 0, 0, (200_000,)).double()
    assert abs(z.mean()) < 5 / 200_000**0.5 and abs(z.var() - 1) < 5 * (2 / 200_000) ** 0.5
    u = RandomStreams(1).uniform("m", 0, 0, (200_000,))
    assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 5 * (1 / 12 / 200_000) ** 0.5
