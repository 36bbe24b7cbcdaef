"""Masks of the literature: halves, the middle, lines, strokes: how much is missing, where, and what is refused."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.alternate_lines import AlternateLines
from degradations.base import Degradation, Shape
from degradations.expand_mask import ExpandMask
from degradations.half_mask import HalfMask
from degradations.stroke_mask import BRUSHES, StrokeMask, cover, scribbled


def _known(degradation: Degradation, shape: Shape) -> torch.Tensor:
    """[H, W] of a mask that is the same for all images."""
    assert not degradation.draws
    mask = degradation.bind({}, shape).mask
    assert mask is not None and mask.shape == (1, 1, *shape[1:])
    return mask[0, 0]


def _strokes(count: int, side: int, seed: int = 0, **options) -> torch.Tensor:
    """Missing pixels, float64 [count, side, side]."""
    operator = StrokeMask(**options).operator_for((1, side, side), list(range(count)), RandomStreams(seed))
    return 1 - operator.mask[:, 0].double()


@pytest.mark.parametrize("missing", ["right", "left", "bottom", "top"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 9)])
def test_half(missing: str, shape: Shape):
    known = _known(HalfMask(missing=missing), shape)
    height, width = shape[1:]
    lost = {
        "right": known[:, -(width // 2) :],
        "left": known[:, : width // 2],
        "bottom": known[-(height // 2) :],
        "top": known[: height // 2],
    }[missing]
    assert (lost == 0).all() and int((known == 0).sum()) == lost.numel()


def test_repaint_is_shown_the_left_half_and_the_middle():
    """RePaint's sizes at 256, and what they are at 28: a quarter of each side."""
    assert (_known(HalfMask(), (3, 256, 256))[:, :128] == 1).all()
    for side, kept in ((256, 64), (64, 16), (28, 7), (32, 8)):
        known = _known(ExpandMask(), (3, side, side))
        first = (side - kept) // 2
        assert (known[first : first + kept, first : first + kept] == 1).all() and int(known.sum()) == kept**2
    assert int(_known(ExpandMask(known=0.6), (3, 7, 5)).sum()) == 4 * 3


def test_lines():
    rows = _known(AlternateLines(), (1, 7, 4))
    assert rows[:, 0].tolist() == [1, 0, 1, 0, 1, 0, 1] and (rows == rows[:, :1]).all()
    columns = _known(AlternateLines(lines="columns", period=3), (1, 2, 7))
    assert columns[0].tolist() == [1, 0, 0, 1, 0, 0, 1] and (columns == columns[:1]).all()
    both = _known(AlternateLines(lines="both"), (1, 6, 8))
    assert (both[::2, ::2] == 1).all() and int(both.sum()) == 12  # one pixel of each block of 2x2


def test_a_stroke_is_the_pixels_near_a_segment():
    """Against the distance of every pixel, worked out pixel by pixel; clipped where it passes the border."""
    start, end, radius = (2.0, 3.0), (9.0, 13.0), 2.3
    missing = np.zeros((12, 14), dtype=bool)
    cover(missing, start, end, radius)
    for row in range(12):
        for column in range(14):
            t = np.linspace(0, 1, 2001)[:, None]
            near = np.linalg.norm((1 - t) * np.array(start) + t * np.array(end) - [row, column], axis=1).min()
            assert abs(near - radius) < 1e-3 or missing[row, column] == (near < radius)
    point = np.zeros((5, 5), dtype=bool)
    cover(point, (4.0, 0.0), (4.0, 0.0), 1.0)
    assert np.argwhere(point).tolist() == [[3, 0], [4, 0], [4, 1]]


def test_the_thinnest_stroke_has_no_gaps():
    for angle in np.linspace(0, np.pi, 25):
        missing = np.zeros((40, 40), dtype=bool)
        cover(missing, (20.0, 20.0), (20 + 18 * np.cos(angle), 20 + 18 * np.sin(angle)), 0.5)
        assert label(missing, np.ones((3, 3)))[1] == 1 and missing.sum() >= 13


@pytest.mark.parametrize("side", [28, 64])
def test_strokes_thin_and_thick(side: int):
    """Thick ones are fewer and wider; neither covers more than half, which some did before they were drawn again."""
    shares = {kind: _strokes(40, side, kind=kind).mean((1, 2)) for kind in BRUSHES}
    for share in shares.values():
        assert float(share.max()) <= 0.5 and float(share.min()) > 0 and float(share.std()) > 0.05
    wide = {kind: _eroded(_strokes(30, side, kind=kind)) for kind in BRUSHES}
    assert wide["thick"] > 2 * wide["thin"]
    generator = RandomStreams(0).generator("mask", 0)
    assert max(scribbled(generator, BRUSHES["thin"], side, side).mean() for _ in range(40)) > 0.5


def _eroded(missing: torch.Tensor) -> float:
    """The share of missing pixels whose eight neighbours are missing too."""
    inner = torch.nn.functional.avg_pool2d(missing[:, None], 3, stride=1) > 1 - 1e-6
    return float(inner.double().mean() / missing.mean())


def test_strokes_reach_everywhere_and_belong_to_their_image():
    share = _strokes(80, 28, kind="thin").mean(0)
    assert float(share.min()) > 0.05
    many = _strokes(30, 28, kind="thick")
    assert len({tuple(m.flatten().tolist()) for m in many}) == 30
    assert not torch.equal(many, _strokes(30, 28, seed=1, kind="thick"))
    later = StrokeMask(kind="thick").operator_for((3, 28, 28), [12], RandomStreams(0)).mask
    assert torch.equal(1 - later[0, 0].double(), many[12])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HalfMask(missing="middle"), "missing must be one of"),
        (lambda: HalfMask().bind({}, (1, 5, 1)), "at least 2 pixels"),
        (lambda: ExpandMask(known=1.0), "between 0 and 1"),
        (lambda: ExpandMask(known=0.9).bind({}, (1, 3, 3)), "leaves nothing out"),
        (lambda: AlternateLines(lines="diagonal"), "lines must be one of"),
        (lambda: AlternateLines(period=1), "at least 2"),
        (lambda: AlternateLines(lines="columns").bind({}, (1, 5, 1)), "leaves nothing out"),
        (lambda: StrokeMask(kind="medium"), "kind must be one of"),
        (lambda: StrokeMask(most=0.0), "most must be"),
        (lambda: StrokeMask().operator_for((1, 1, 1), [0], RandomStreams(0)), "larger images"),
    ],
)
def test_options_out_of_range_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
