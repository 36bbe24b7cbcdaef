"""The shape of one image."""

from collections.abc import Sequence

Shape = tuple[int, int, int]


def image_shape(sizes: Sequence[int]) -> Shape:
    """(C, H, W) of three sizes, such as `x.shape[1:]` or a list of a config; ValueError for any other number."""
    if len(sizes) != 3:
        raise ValueError(f"the shape of an image is channels, height and width, three numbers, got {list(sizes)}")
    channels, height, width = sizes
    return channels, height, width
