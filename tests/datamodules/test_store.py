"""Image sets: rows, indices, names, refusals."""

import pytest
import torch

from datamodules.store import ImageSet, MemoryStore


def test_rows_of_a_part_keep_their_stable_index():
    pixels = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 3, 2, 4)
    part = ImageSet(
        MemoryStore(pixels, index=torch.arange(10) + 100, label=torch.arange(10) % 3), torch.tensor([2, 5, 7])
    )
    batch = part.get([2, 0])
    assert (
        batch.index.tolist() == [107, 102]
        and batch.label.tolist() == [1, 2]
        and batch.image[:, 0, 0, 0].tolist() == [7, 2]
    )
    assert batch.image.dtype == torch.uint8 and batch.image.shape == (2, 3, 2, 4)
    assert len(part) == 3 and part.shape(1) == (3, 2, 4) and part.name(1) == "00105" and part.one_shape
    assert part.get([]).image.shape == (0, 3, 2, 4)
    for wrong in ([3], [-1], [0, 9]):
        with pytest.raises(IndexError, match=r"0\.\.2"):
            part.get(wrong)


def test_pixels_are_uint8():
    with pytest.raises(TypeError, match="uint8"):
        MemoryStore(torch.zeros(2, 1, 2, 2))
