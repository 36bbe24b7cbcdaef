"""A mask as a person paints or erases it: upright, transparent is missing; what is none is refused with the share."""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data

from common.errors import UserError
from degradations.composition import Composition
from degradations.given_mask import GivenMask, masks_in, read_mask
from degradations.identity import Identity


def painted() -> np.ndarray:
    """uint8 [40, 60] with scratches of two pixels and a box: what no turn leaves where it is."""
    mask = np.full((40, 60), 255, np.uint8)
    mask[4:14, 6:20] = 0
    mask[20:22], mask[:, 50:52] = 0, 0
    return mask


def saved(tmp_path, pixels: np.ndarray, name: str = "mask.png", **options):
    Image.fromarray(pixels).save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("channels", [2, 4])
def test_what_an_eraser_left_is_missing(tmp_path, channels):
    """White everywhere, and holes that are transparent, whatever colour is under them."""
    for under in (255, 0, 77):
        mask = np.full((40, 60, channels), 255, np.uint8)
        mask[painted() == 0] = [under] * (channels - 1) + [0]
        assert np.array_equal(read_mask(saved(tmp_path, mask)).numpy() * 255, painted())


def test_painted_and_erased_add_up(tmp_path):
    mask = np.full((40, 60, 2), 255, np.uint8)
    mask[:10, :, 0], mask[30:, :, 1] = 0, 100
    known = read_mask(saved(tmp_path, mask))
    assert known[10:30].all() and not known[:10].any() and not known[30:].any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_the_picture_beside_it(tmp_path, orientation):
    """By Pillow's own turning."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, painted(), exif=exif)
    way = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    upright = Image.fromarray(painted()) if way is None else Image.fromarray(painted()).transpose(Image.Transpose(way))
    assert np.array_equal(read_mask(path).numpy() * 255, np.array(upright))


@pytest.mark.parametrize("blur", [0, 0.5, 1])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_and_soft_brushes_leave_a_mask(tmp_path, blur, quality):
    soft = Image.fromarray(painted()).filter(ImageFilter.GaussianBlur(blur))
    soft.save(tmp_path / "mask.jpg", quality=quality)
    assert (read_mask(tmp_path / "mask.jpg").numpy() * 255 != painted()).mean() < 0.04


def test_any_two_levels_do(tmp_path):
    mask = np.where(painted() == 0, 90, 170).astype(np.uint8)
    assert np.array_equal(read_mask(saved(tmp_path, mask)).numpy() * 255, painted())


@pytest.mark.parametrize("name", ["camera", "coins", "moon", "astronaut", "coffee", "chelsea"])
def test_a_photograph_is_refused_with_the_share(tmp_path, name):
    path = saved(tmp_path, getattr(data, name)())
    with pytest.raises(UserError, match=r"not nearly two-valued, \d\d %|everything out, 100 %"):
        GivenMask(path=str(path))


def test_all_or_nothing_is_refused_with_the_share(tmp_path):
    for level, words in ((255, "leaves nothing out, 0 %"), (0, "leaves everything out, 100 %")):
        with pytest.raises(UserError, match=words):
            GivenMask(path=str(saved(tmp_path, np.full((8, 8), level, np.uint8))))
    clear = np.full((8, 8, 4), 255, np.uint8)
    clear[..., 3] = 0
    with pytest.raises(UserError, match="leaves everything out, 100 %"):
        GivenMask(path=str(saved(tmp_path, clear)))
    assert read_mask(saved(tmp_path, np.full((8, 8), 255, np.uint8)), may_keep_all=True).all()


def test_the_share_of_missing_pixels(tmp_path):
    mask = GivenMask(path=str(saved(tmp_path, painted())))
    assert mask.missing == pytest.approx((painted() == 0).mean())
    assert masks_in(Composition(parts=[Identity(), mask])) == [mask] and masks_in(Identity()) == []
