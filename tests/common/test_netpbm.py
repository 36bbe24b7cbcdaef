"""PGM, PPM and PFM beyond 8 bits: other largest levels, comments, byte orders, and what is damaged."""

import numpy as np
import pytest

from common.errors import UserError
from common.netpbm import shape_of
from common.picture_files import read_picture


def levels(path) -> np.ndarray:
    return ((read_picture(path).image.double().numpy() + 1) / 2 * 65535).round()


def test_the_largest_level_is_white(tmp_path):
    """12 bits of a camera: 4095 is white, others are rounded."""
    stored = np.array([[0, 1, 2048], [4094, 4095, 7]])
    (tmp_path / "a.pgm").write_bytes(b"P5 # a comment\n3 2\n4095\n" + stored.astype(">u2").tobytes())
    assert np.array_equal(levels(tmp_path / "a.pgm")[0], np.round(stored * 65535 / 4095))
    (tmp_path / "b.pgm").write_text("P2\n3 2\n4095\n" + " ".join(map(str, stored.ravel())) + "\n# the end\n")
    assert np.array_equal(levels(tmp_path / "b.pgm"), levels(tmp_path / "a.pgm"))


def test_floating_point_of_both_byte_orders_from_below(tmp_path):
    values = np.arange(6).reshape(2, 3) / 8
    for order, scale in (("<", b"-1.0"), (">", b"1.0")):
        (tmp_path / "a.pfm").write_bytes(b"Pf\n3 2\n" + scale + b"\n" + values.astype(f"{order}f4").tobytes())
        assert np.allclose(read_picture(tmp_path / "a.pfm").image[0].numpy(), values[::-1] * 2 - 1)


def test_eight_bits_are_left_to_pillow():
    assert shape_of(b"P5\n3 2\n255\n") is None and shape_of(b"P4\n3 2\n") is None
    assert shape_of(b"P6\n3 2\n256\n") == (3, 2, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"P5\n3 2\n65535\n" + bytes(11), "cut off"),
        (b"P2\n3 2\n300\n1 2 3", "cut off"),
        (b"P5\n3 2\n300\n" + b"\xff" * 12, "above its largest"),
        (b"P5\n3 2\n70000\n" + bytes(12), "ends at 65535"),
        (b"P2\n3 2\n300\n1 2 3 x 5 6", "damaged"),
        (b"P5\n300000 200000\n65535\n", "is too large"),
    ],
)
def test_damage(tmp_path, content, words):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_picture(tmp_path / "a.pgm")
