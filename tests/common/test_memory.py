"""Half as many at once where memory does not suffice."""

import pytest
import torch

from common.errors import UserError
from common.memory import fits, in_batches


def test_the_same_items_again_half_as_many_at_once():
    done, asked = [], []

    def do(batch: list[int]) -> None:
        asked.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(batch)

    assert in_batches(list(range(11)), 7, do, none_fits="") == 3
    assert done == list(range(11)) and asked == [7, 3, 3, 3, 2]


def test_one_that_does_not_fit_is_a_users_matter_and_a_mistake_is_not():
    def never(_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="take another device"):
        in_batches([1, 2, 3], 2, never, none_fits="take another device")

    def wrong() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        fits(wrong)

    def cpu() -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    assert not fits(cpu) and fits(lambda: None)
