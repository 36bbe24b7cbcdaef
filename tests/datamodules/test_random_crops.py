"""Random crops: where their pixels come from, by what they are drawn, position-exact resume, refusals."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from datamodules.random_crops import RandomCrops


def fill(folder, count: int = 12, size: tuple[int, int] = (40, 28)):
    rng = np.random.default_rng(0)
    for k in range(count):
        shape = (*size, 3) if k % 2 else (*size[::-1], 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{k}.png")
    return folder


def data(folder, **options) -> RandomCrops:
    return RandomCrops(**{"folder": str(folder), "size": 16, "test_images": 0, "batch_size": 4} | options)


def whole(folder, k: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(folder / f"{k}.png"))).permute(2, 0, 1)


def symmetries(x: torch.Tensor) -> list[torch.Tensor]:
    return [torch.rot90(y, k, (1, 2)) for y in (x, x.flip(-1)) for k in range(4)]


def places(crop: torch.Tensor, picture: torch.Tensor) -> list[tuple[int, int]]:
    side = crop.shape[-1]
    windows = picture.unfold(1, side, 1).unfold(2, side, 1)
    return [tuple(p) for p in (windows == crop[:, None, None]).all(-1).all(-1).all(0).nonzero().tolist()]


def test_native_crops_are_windows_of_their_picture_in_all_eight_symmetries(tmp_path):
    images = data(fill(tmp_path), native=1.0).images("train")
    seen, found_at = set(), set()
    for epoch in range(12):
        for k, crop in enumerate(images.take(torch.arange(12), epoch).image):
            hits = [(s, p) for s, turned in enumerate(symmetries(crop)) for p in places(turned, whole(tmp_path, k))]
            assert len(hits) == 1, "noise has one place in one symmetry"
            seen.add(hits[0][0])
            found_at.add(hits[0][1])
    assert seen == set(range(8)) and len(found_at) > 90
    upright = data(tmp_path, native=1.0, turns=False).images("train")
    assert all(places(crop, whole(tmp_path, k)) for k, crop in enumerate(upright.take(torch.arange(12), 3).image))


def test_rescaled_crops_hold_the_picture_reduced_by_the_factor(tmp_path):
    # A ramp of 4 levels a pixel becomes one of 4 / 0.5 where the picture is halved, wherever the crop lies and up to
    # its edges.
    ramp = np.repeat(np.repeat(4 * np.arange(60, dtype=np.uint8)[None, :, None], 60, 0), 3, 2)
    Image.fromarray(ramp).save(tmp_path / "0.png")
    images = data(tmp_path, native=0.0, scale=(0.5, 0.5), turns=False).images("train")
    for epoch in range(20):
        crop = images.take(torch.arange(1), epoch).image[0].double()
        # the picture ends there: the filter has half of its support
        inside = crop[:, :, 1:-1] if crop.max() > 232 or crop.min() < 6 else crop
        steps = inside.diff(dim=-1)
        assert (steps - 8).abs().max() <= 1 and (crop == crop[:, :1]).all()


def test_scale_is_within_its_range_and_native_crops_have_their_share(tmp_path):
    ramp = np.repeat(np.repeat(2 * np.arange(100, dtype=np.uint8)[None, :, None], 100, 0), 3, 2)
    Image.fromarray(ramp).save(tmp_path / "0.png")
    images = data(tmp_path, native=0.5, scale=(0.7, 0.9), turns=False).images("train")
    crops = torch.cat([images.take(torch.arange(1), epoch).image for epoch in range(300)]).double()
    factors = 2 / ((crops[:, 0, 0, -2] - crops[:, 0, 0, 1]) / 13)
    native = (factors - 1).abs() < 0.02
    assert 0.5 - 4.5 * 0.5 / 300**0.5 < native.double().mean() < 0.5 + 4.5 * 0.5 / 300**0.5
    assert 0.68 < factors[~native].min() < 0.72 and 0.88 < factors[~native].max() < 0.93


def test_a_crop_is_a_function_of_seed_epoch_and_index(tmp_path):
    one, same, other = data(fill(tmp_path)), data(tmp_path), data(tmp_path, seed=1)
    rows = torch.arange(12)
    first = one.images("train").take(rows, 0).image
    assert first.shape == (12, 3, 16, 16) and first.dtype == torch.uint8 and one.shape == (3, 16, 16)
    assert torch.equal(first, same.images("train").take(rows.flip(0), 0).image.flip(0))
    assert torch.equal(first, data(tmp_path, memory_limit_mb=0).images("train").take(rows, 0).image)
    assert torch.equal(
        first[[2, 5]], data(tmp_path, validation=3).images("train").store.read(torch.tensor([2, 5]), 0)[0]
    )
    for different in (one.images("train").take(rows, 1).image, other.images("train").take(rows, 0).image):
        assert all(not torch.equal(a, b) for a, b in zip(first, different, strict=True))


def test_validation_and_test_are_middle_windows(tmp_path):
    one = data(fill(tmp_path), validation=2, test_images=3)
    for split, count in (("validation", 2), ("test", 3), ("train", 7)):
        images = one.images(split)
        batch = images.get(list(range(len(images))))
        assert len(images) == count
        for crop, k in zip(batch.image, batch.index.tolist(), strict=True):
            picture = whole(tmp_path, k)
            top, left = (picture.shape[1] - 16) // 2, (picture.shape[2] - 16) // 2
            assert torch.equal(crop, picture[:, top : top + 16, left : left + 16])


def test_a_run_goes_on_with_the_crops_it_had_not_seen(tmp_path):
    fill(tmp_path)

    def batches(loader, count):
        found = []
        while len(found) < count:
            found += list(itertools.islice(iter(loader), count - len(found)))
        return found

    straight = batches(data(tmp_path).train_dataloader(), 7)
    for stop in range(1, 7):
        first = data(tmp_path).train_dataloader()
        before = batches(first, stop)
        second = data(tmp_path).train_dataloader()
        second.load_state_dict(first.state_dict())
        again = before + batches(second, 7 - stop)
        assert all(
            torch.equal(a.image, b.image) and torch.equal(a.index, b.index)
            for a, b in zip(straight, again, strict=True)
        )


def test_pictures_smaller_than_the_crop_are_enlarged_and_those_that_barely_fit_are_not_reduced(tmp_path):
    Image.new("RGB", (9, 30), "red").save(tmp_path / "0.png")
    Image.new("RGB", (17, 17), "blue").save(tmp_path / "1.png")
    images = data(tmp_path, native=0.0, scale=(0.5, 1.0)).images("train")
    for epoch in range(8):
        crops = images.take(torch.arange(2), epoch).image
        assert (crops[0] == torch.tensor([255, 0, 0]).view(3, 1, 1)).all() and (
            crops[1] == torch.tensor([0, 0, 255]).view(3, 1, 1)
        ).all()


def test_grey(tmp_path):
    images = data(fill(tmp_path), mode="grey", native=0.0)
    assert images.shape == (1, 16, 16) and images.images("train").take(torch.arange(4), 0).image.shape == (4, 1, 16, 16)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (0.9, 0.8)},
        {"scale": (0.5, 1.2)},
        {"native": 1.5},
        {"native": -0.1},
        {"size": 0},
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(UserError, match=next(iter(options))):
        data(tmp_path, **options)
