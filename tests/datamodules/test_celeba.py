"""Crops and partitions of CelebA."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from datamodules.celeba import BOXES, CelebA, FaceCrop


def fill(folder, numbers, size=(89, 109), ending="jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        Image.new("RGB", size, (n % 256, 0, 0)).save(folder / f"{n:06d}.{ending}")


def numbers(images) -> list[int]:
    return images.store.index[images.positions].tolist()


def test_half_size_is_cropped_without_resampling(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (109, 89, 3), dtype=np.uint8)
    folder = tmp_path / "celeba" / "img_align_celeba"
    fill(folder, [2, 3], ending="png")
    Image.fromarray(pixels).save(folder / "000001.png")
    data = CelebA(data_dir=str(tmp_path), validation=0)
    store = data.images("train").store
    assert torch.equal(store.read(torch.tensor([0]))[0][0], torch.from_numpy(pixels[28:92, 12:76]).permute(2, 0, 1))
    assert data.shape == (3, 64, 64) == data.images("train").shape(0)


def test_full_size_is_the_same_face():
    for (_, _), (left, upper, right, lower) in BOXES.items():
        assert right - left == lower - upper
    full, half = BOXES[(178, 218)], BOXES[(89, 109)]
    assert all(abs(f / 2 - h) <= 0.5 for f, h in zip(full, half, strict=True))
    y, x = np.mgrid[:218, :178]
    smooth = np.stack([x, y, (x + y) / 2], -1).astype(np.uint8)
    half_size = np.asarray(Image.fromarray(smooth).reduce(2)).astype(int)
    assert half_size.shape[:2] == (109, 89)
    faces = [np.asarray(FaceCrop(64)(Image.fromarray(p.astype(np.uint8)))).astype(int) for p in (smooth, half_size)]
    assert np.abs(faces[0] - faces[1]).max() <= 2  # one pixel of the full size apart, and rounding
    assert FaceCrop(128)(Image.fromarray(smooth)).size == (128, 128)
    assert (np.asarray(FaceCrop(128)(Image.fromarray(smooth))) == smooth[57:185, 25:153]).all()


def test_other_sizes_are_refused(tmp_path):
    fill(tmp_path / "celeba", [1], (64, 64))
    with pytest.raises(UserError, match="64x64 pixels; aligned CelebA pictures have 178x218, or 89x109"):
        CelebA(data_dir=str(tmp_path), validation=0).images("train")


def test_without_a_partition_a_tenth_is_the_test_set(tmp_path):
    fill(tmp_path / "img_align_celeba", range(1, 41))
    data = CelebA(data_dir=str(tmp_path), validation=5)
    parts = [numbers(data.images(s)) for s in ("train", "validation", "test")]
    assert [len(p) for p in parts] == [31, 5, 4] and sorted(sum(parts, [])) == list(range(1, 41))  # noqa: RUF017
    assert numbers(CelebA(data_dir=str(tmp_path), validation=1, split_seed=3, seed=2).images("test")) == parts[2]


@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_official_list(tmp_path, ending):
    fill(tmp_path / "celeba" / "img_align_celeba" / "img_align_celeba", range(1, 11))
    part = {1: 0, 2: 1, 3: 2, 4: 0, 5: 1, 6: 1, 7: 0, 8: 2, 9: 0, 10: 0, 11: 0}
    comma, head = (",", "image_id,partition\n") if ending == "csv" else (" ", "")
    lines = "".join(f"{n:06d}.jpg{comma}{p}\n" for n, p in part.items())
    (tmp_path / "celeba" / f"list_eval_partition.{ending}").write_text(head + lines)
    data = CelebA(data_dir=str(tmp_path), validation=2)
    assert numbers(data.images("train")) == [1, 4, 7, 9, 10] and numbers(data.images("test")) == [3, 8]
    assert len(data.images("validation")) == 2 and set(numbers(data.images("validation"))) < {2, 5, 6}
    with pytest.raises(UserError, match=r"at most the official validation part \(3 images\), got 4"):
        CelebA(data_dir=str(tmp_path), validation=4).images("train")


def test_official_numbers(tmp_path):
    fill(tmp_path / "celeba", [1, 162770, 162771, 182637, 182638, 202599])
    data = CelebA(data_dir=str(tmp_path), validation=2)
    parts = [numbers(data.images(s)) for s in ("train", "validation", "test")]
    assert parts == [[1, 162770], [162771, 182637], [182638, 202599]]
    assert data.images("test").get([1]).index.item() == 202599 and data.images("test").name(1) == "202599.jpg"


def test_missing(tmp_path):
    message = f"put 000001.jpg ... into '{tmp_path}/celeba/img_align_celeba'"
    with pytest.raises(UserError, match=message):
        CelebA(data_dir=str(tmp_path), download=False).prepare_data()
    with pytest.raises(UserError, match=message):
        CelebA(data_dir=str(tmp_path)).images("test")


def test_real_files(real_data):
    data = CelebA(memory_limit_mb=0)
    assert [len(data.images(s)) for s in ("train", "validation", "test")] == [2050, 200, 250]
    face = data.images("train").get([0]).image.float()
    assert face[:, 0].mean() > face[:, 2].mean(), "skin is more red than blue"
