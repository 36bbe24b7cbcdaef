"""Pictures to be restored: their measurements are keyed by the picture, masks and truths lie beside them, mistakes are
one sentence.
"""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from common.errors import UserError
from common.random_streams import RandomStreams
from datamodules.degraded_images import DegradedImages
from datamodules.digits import Digits
from datamodules.user_images import UserImages
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.given_mask import GivenMask
from degradations.measurement import measure
from degradations.noise import GaussianNoise

NOISE = GaussianNoise(sigma_255=25)


def write(path: Path, size: tuple[int, int] = (20, 24), *, colour: bool = True, seed: int = 0, **options) -> Path:
    """A random picture, size (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(*size, 3) if colour else size, dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    write(tmp_path / "in/a.png", seed=1)
    write(tmp_path / "in/b2.png", (16, 16), colour=False, seed=2)
    write(tmp_path / "in/b10.png", seed=3)
    return tmp_path / "in"


def test_a_folder_in_natural_order_each_picture_alone_as_beside_others(folder):
    data = UserImages(path=str(folder), noise=NOISE, seed=5)
    assert data.names == ["a", "b2", "b10"] and [data.shape(k) for k in range(3)] == [
        (3, 20, 24),
        (1, 16, 16),
        (3, 20, 24),
    ]
    both = data.measurement([0, 2])
    assert both.index == (0, 2) and both.sigma == NOISE.sigma
    for row, k in ((0, 0), (2, 1)):
        assert torch.equal(data.measurement([row]).y[0], both.y[k]) and torch.equal(
            data.measurement([row]).truth[0], both.truth[k]
        )
    clean = torch.from_numpy(np.array(Image.open(folder / "b10.png"))).permute(2, 0, 1).float() / 127.5 - 1
    torch.testing.assert_close(both.truth[1], clean)
    assert torch.equal(
        both.y[1], both.truth[1] + NOISE.sigma * RandomStreams(5).normal("measurement", 2, 0, (3, 20, 24))
    )
    assert "3 pictures of [1, 16, 16], [3, 20, 24]" in data.contents() and data.batch_per_process(2) == 2
    with pytest.raises(UserError, match=r"3 pictures for 4 processes.*at most 3"):
        data.batch_per_process(4)


def test_one_file_grey_cropped_and_cut(tmp_path):
    path = write(tmp_path / "p.png", (37, 30))
    assert UserImages(path=str(path), mode="grey", multiple=8).shape(0) == (1, 32, 24)
    data = UserImages(path=str(path), crop=11)
    whole = UserImages(path=str(path)).measurement([0]).truth
    assert torch.equal(data.measurement([0]).truth, whole[:, :, 13:24, 9:20])
    assert UserImages(path=str(path), size=15).shape(0) == (3, 18, 15)


def test_relative_to_the_data_folder(tmp_path, monkeypatch):
    write(tmp_path / "sets/x.png")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert UserImages(path="sets/x.png").names == ["x"]


def test_a_mask_of_each_picture_and_transparent_pixels(folder, tmp_path):
    for name, size in (("a.png", (20, 24)), ("b2.png", (16, 16)), ("b10.png", (20, 24))):
        known = np.full(size, 255, np.uint8)
        known[2:5, 3:9] = 0 if name != "b10.png" else 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(known).save(tmp_path / "masks" / name)
    data = UserImages(path=str(folder), mask=str(tmp_path / "masks"), noise=NOISE)
    found = data.measurement([0, 2])
    assert found.operator.mask.shape == (2, 1, 20, 24) and (found.operator.mask == 0).sum() == 18
    assert (found.y[0, :, 2:5, 3:9] == 0).all()
    pixels = np.array(Image.open(folder / "a.png").convert("RGBA"))
    pixels[7, 8, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "hole.png")
    found = UserImages(path=str(tmp_path / "hole.png"), degraded=True).measurement([0])
    assert (found.operator.mask == 0).sum() == 1 and found.operator.mask[0, 0, 7, 8] == 0 and found.truth is None


def test_the_share_of_missing_pixels_is_said(folder, tmp_path):
    """Of masks, of transparent pixels, and of a mask that is the degradation; masks that leave nothing out are refused
    where none of a folder does.
    """
    known = np.full((20, 24), 255, np.uint8)
    Image.fromarray(known).save(tmp_path / "white.png")
    known[:5] = 0
    Image.fromarray(known).save(tmp_path / "hole.png")
    one = str(folder / "a.png")
    for options in (
        {"mask": str(tmp_path / "hole.png")},
        {"degradation": GivenMask(path=str(tmp_path / "hole.png"))},
    ):
        assert "25.0 % of the pixels are missing" in UserImages(path=one, **options).contents()
    assert "missing" not in UserImages(path=one).contents()
    (tmp_path / "masks").mkdir()
    for name in ("a.png", "b10.png"):
        (tmp_path / "masks" / name).write_bytes((tmp_path / "white.png").read_bytes())
    (folder / "b2.png").unlink()
    with pytest.raises(UserError, match="leave nothing out, 0 %"):
        UserImages(path=str(folder), mask=str(tmp_path / "masks")).items  # noqa: B018
    (tmp_path / "masks/b10.png").write_bytes((tmp_path / "hole.png").read_bytes())
    assert "12.5 % of the pixels are missing" in UserImages(path=str(folder), mask=str(tmp_path / "masks")).contents()


def test_what_is_passed_over_is_said(folder, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("datamodules.user_images.rank_zero_info", lines.append)
    (folder / "a.heic").write_bytes(b"x")
    assert len(UserImages(path=str(folder)).items) == 3
    assert lines == [f"'{folder}': 3 pictures; passed over: 1 .heic"]


def test_degraded_already_with_a_truth(tmp_path):
    small, large = write(tmp_path / "in.png", (8, 8)), write(tmp_path / "truth.png", (16, 16), seed=9)
    data = UserImages(path=str(small), truth=str(large), degraded=True, degradation=AveragePool(factor=2), noise=NOISE)
    found = data.measurement([0])
    assert data.shape(0) == (3, 16, 16) and found.truth.shape == (1, 3, 16, 16) and found.y.shape == (1, 3, 8, 8)
    with pytest.raises(UserError, match=r"truth of 'in' has 3 channel.*8x8.*16x16"):
        UserImages(path=str(small), truth=str(small), degraded=True, degradation=AveragePool(factor=2)).measurement([0])


def test_images_of_a_data_set_are_keyed_by_their_index():
    source = Digits()
    data = DegradedImages(source=source, rows=[7, 2], degradation=BoxMask(size=4), noise=NOISE, size=16, seed=3)
    found = data.measurement([1])
    image = source.images("test").get([2])
    assert (
        data.names == ["00007", "00002"] and found.index == (int(image.index[0]),) and found.y.shape == (1, 1, 16, 16)
    )
    again = measure(found.truth, degradation=BoxMask(size=4), noise=NOISE, index=found.index, random=RandomStreams(3))
    assert torch.equal(again.y, found.y)
    exact = DegradedImages(source=source, count=2).measurement([0, 1])
    assert torch.equal(exact.y, source.images("test").get([0, 1]).image.float() / 127.5 - 1)


def test_mistakes_are_one_sentence(folder, tmp_path):
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(black)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello")
    holes = np.full((8, 8), 0.5, np.float32)
    holes[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", holes)
    one = str(folder / "a.png")
    mistakes = {
        "no file or folder at": {"path": "/nowhere/x.png"},
        "no white pixel": {"path": one, "mask": str(black)},
        "has size 24x20": {"path": str(folder / "b2.png"), "mask": str(black.with_name("white.png"))},
        "has no pictures": {"path": str(tmp_path / "empty")},
        "cannot be read": {"path": str(tmp_path / "text.png")},
        "1 pixel of NaN": {"path": str(tmp_path / "nan.tif")},
        "has no 'a.png'": {"path": str(folder), "truth": str(tmp_path / "empty"), "degraded": True},
        "mask and degradation are both given": {"path": one, "mask": str(black), "degradation": BoxMask(size=2)},
        "would change the noise": {"path": one, "degraded": True, "crop": 8},
        "the pictures are the truth": {"path": one, "truth": one},
        "crop is 99": {"path": one, "crop": 99},
        "limit must be": {"path": one, "limit": 0},
        "mode must be": {"path": one, "mode": "blue"},
    }
    Image.fromarray(np.where(np.eye(20, 24), 0, 255).astype(np.uint8)).save(tmp_path / "white.png")
    for words, options in mistakes.items():
        with pytest.raises(UserError) as error:
            UserImages(**options).measurement([0])
        assert words in str(error.value) and "\n" not in str(error.value), (words, str(error.value))
    with pytest.raises(UserError, match="360 images"):
        DegradedImages(source=Digits(), rows=[360]).names  # noqa: B018
