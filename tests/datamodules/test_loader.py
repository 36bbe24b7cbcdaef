"""The slices of the processes, the epochs, the position."""

import copy
import itertools

import numpy as np
import pytest
import torch

from datamodules.loader import EvaluationLoader, ResumableLoader
from datamodules.store import MemoryStore, everything


def numbers(n: int):
    return everything(
        MemoryStore(torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 2, 2).contiguous())
    )


def loader(n=23, **options) -> ResumableLoader:
    return ResumableLoader(numbers(n), **{"batch_size": 4, "seed": 5} | options)


def flat(batches: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def indices(batches) -> list[list[int]]:
    return [b.index.tolist() for b in batches]


def test_an_epoch_gives_every_image_once_but_for_the_last_incomplete_batch():
    one = loader()
    first, second = indices(one), indices(one)
    assert len(one) == len(first) == len(second) == 5
    for epoch in (first, second):
        rows = flat(epoch)
        assert len(set(rows)) == len(rows) == 20
    assert first != second and one.epoch == 1
    assert indices(loader()) == first, "the order is a function of (seed, epoch)"
    assert indices(loader(seed=6)) != first


def test_pixels_belong_to_their_index():
    for batch in loader():
        assert batch.image.dtype == torch.uint8 and (batch.image[:, 0, 0, 0].long() == batch.index).all()


@pytest.mark.parametrize("n", [23, 24, 16])
def test_two_processes_share_the_batches_of_one(n):
    whole = indices(loader(n, batch_size=8))
    ranks = [indices(loader(n, rank=r, world_size=2)) for r in range(2)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole


def test_state_has_nothing_of_the_rank_and_other_numbers_of_processes_go_on_with_unseen_images():
    states = []
    for rank in range(2):
        one = loader(rank=rank, world_size=2)
        it = iter(one)
        seen = [next(it), next(it)]
        states.append(one.state_dict())
        assert len(seen) == 2
    assert states[0] == states[1] == {"epoch": 0, "given": 16, "images": 23}
    alone = loader()
    alone.load_state_dict(states[0])
    order = alone.order(0).tolist()
    assert indices(alone) == [order[16:20]]  # 3 of 23 are left, fewer than a batch


@pytest.mark.parametrize("stop", range(12))
def test_restored_loader_goes_on_across_epochs(stop):
    def stream(one):
        while True:
            yield from one

    def take(it, count):
        return indices(next(it) for _ in range(count))

    whole = take(stream(loader()), 14)
    one = loader()
    it = stream(one)
    begun = take(it, stop)
    other = loader()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert begun + take(stream(other), 14 - stop) == whole


def test_asking_for_an_iterator_moves_nothing():
    one = loader()
    iter(one), iter(one)
    assert one.state_dict()["given"] == 0
    assert indices(one) == indices(loader())


def test_an_abandoned_epoch_is_followed_by_the_next_one():
    one = loader()
    next(iter(one))
    assert indices(one) == indices(one.images.get(rows.tolist()) for rows in one.order(1)[:20].split(4))


def test_a_set_smaller_than_a_global_batch_is_repeated_with_a_warning():
    with pytest.warns(UserWarning, match=r"3 images, fewer than a batch of 8"):
        ranks = [loader(3, rank=r, world_size=2) for r in range(2)]
    epochs = [indices(r) for r in ranks]
    assert [len(e) for e in epochs] == [1, 1] == [len(r) for r in ranks]
    counts = np.bincount(epochs[0][0] + epochs[1][0])
    assert sorted(counts) == [2, 3, 3]
    assert len(indices(ranks[0])) == 1 and ranks[0].epoch == 1


def test_a_set_that_has_grown_begins_a_new_epoch():
    one = loader()
    next(iter(one))
    other = loader(30)
    with pytest.warns(UserWarning, match="30 images, but had 23"):
        other.load_state_dict(one.state_dict())
    assert len(indices(other)) == 7 and other.epoch == 1


def test_nothing_is_drawn_from_the_global_generators():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(loader())
    assert torch.equal(torch.get_rng_state(), before) and (np.random.get_state()[1] == numpy_before).all()


@pytest.mark.parametrize("world_size", [1, 2, 3, 30])
def test_evaluation_gives_every_image_once_over_all_processes(world_size):
    parts = [EvaluationLoader(numbers(23), batch_size=4, rank=r, world_size=world_size) for r in range(world_size)]
    batches = [indices(p) for p in parts]
    assert [len(p) for p in parts] == [len(b) for b in batches]
    for rank, given in enumerate(batches):
        assert flat(given) == list(range(rank, 23, world_size))
        assert all(len(b) <= 4 for b in given)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        loader(0)
    for wrong in ({"batch_size": 0}, {"rank": 1}, {"rank": -1, "world_size": 2}):
        with pytest.raises(ValueError, match="batch_size must"):
            loader(**wrong)


def test_a_batch_that_was_fetched_and_not_trained_on_is_given_again():
    """On every process: the position counts the images of all of them."""
    for rank in range(2):
        first, again = (loader(rank=rank, world_size=2) for _ in range(2))
        given = indices(itertools.islice(first, 2))
        first.in_flight = lambda: True
        again.load_state_dict(first.state_dict())
        assert indices(itertools.islice(again, 1)) == given[1:]
