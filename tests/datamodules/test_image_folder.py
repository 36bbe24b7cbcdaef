"""A folder of one's own pictures."""

import multiprocessing
import signal
import subprocess
import warnings

import numpy as np
import pytest
import torch
from picture_examples import too_large
from PIL import Image

from common.errors import UserError
from datamodules.image_folder import ImageFolder


def fill(folder, count: int = 20, size: tuple[int, int] = (24, 16), start: int = 0):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(start, start + count):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return folder


def data(folder, **options) -> ImageFolder:
    return ImageFolder(**{"folder": str(folder), "size": 16, "batch_size": 4} | options)


def all_of(images) -> torch.Tensor:
    return images.get(list(range(len(images)))).image


def test_splits_are_by_name_and_indices_by_natural_order(tmp_path):
    one = data(fill(tmp_path), validation=3)
    parts = [one.images(s) for s in ("train", "validation", "test")]
    assert [len(p) for p in parts] == [15, 3, 2] and one.shape == (3, 16, 16) == parts[0].shape(0)
    rows = {int(p.get([r]).index): p.name(r) for p in parts for r in range(len(p))}
    assert rows == {k: f"{k}.png" for k in range(20)}
    again = data(tmp_path, validation=0, seed=4, split_seed=7, size=8).images("test")
    assert [again.name(r) for r in range(2)] == [parts[2].name(r) for r in range(2)]


def test_all_for_testing(tmp_path):
    one = data(fill(tmp_path, 5), test_images="all")
    assert len(one.images("test")) == 5 and len(one.images("train")) == 0
    with pytest.raises(UserError, match="training set is empty"):
        one.train_dataloader()
    with pytest.raises(UserError, match=r"test_images must be at most .*\(5\), got 6"):
        data(tmp_path, test_images=6).images("test")


def test_named_subfolders(tmp_path):
    fill(tmp_path / "train" / "deep", 6)
    fill(tmp_path / "held", 3)
    one = data(tmp_path, train="train", test="held")
    assert len(one.images("train")) == 6 and len(one.images("test")) == 3
    assert one.images("train").name(0) == "deep/0.png"
    rest = data(tmp_path, test="held")
    assert len(rest.images("train")) == 6 and len(rest.images("test")) == 3


def test_folder_relative_to_the_data_folder(tmp_path):
    fill(tmp_path / "mine", 4)
    assert len(data("mine", data_dir=str(tmp_path), test_images="all").images("test")) == 4


def test_random_crop_is_a_function_of_seed_epoch_and_index(tmp_path):
    options = {"crop": "random", "size": 8, "test_images": 0, "resize": 0}
    one, same, other = data(fill(tmp_path), **options), data(tmp_path, **options), data(tmp_path, seed=1, **options)
    rows = torch.arange(20)
    first = one.images("train").take(rows, 0).image
    assert first.shape == (20, 3, 8, 8)
    assert torch.equal(first, same.images("train").take(rows.flip(0), 0).image.flip(0))
    for different in (one.images("train").take(rows, 1).image, other.images("train").take(rows, 0).image):
        assert not torch.equal(first, different)
    whole = [torch.from_numpy(np.array(Image.open(tmp_path / f"{k}.png"))).permute(2, 0, 1) for k in range(20)]
    places = set()
    for crop, picture in zip(first, whole, strict=True):
        windows = picture.unfold(1, 8, 1).unfold(2, 8, 1)  # [3, 9, 17, 8, 8]
        found = (windows == crop[:, None, None]).all(-1).all(-1).all(0).nonzero()
        assert len(found) == 1, "every crop is a window of its own picture, pixel by pixel"
        places.add(tuple(found[0].tolist()))
    assert len(places) > 12
    middle = one.images("train").get([0]).image[0]
    assert torch.equal(middle, whole[0][:, 4:12, 8:16])


def test_decoding_when_needed_gives_the_same_pixels(tmp_path):
    fill(tmp_path, 12)
    for options in ({}, {"crop": "random", "size": 8}, {"size": None}, {"size": 8, "crop": "none"}):
        ready, lazy = (
            data(tmp_path, test_images="all", **options),
            data(tmp_path, test_images="all", memory_limit_mb=0, **options),
        )
        assert torch.equal(all_of(ready.images("test")), all_of(lazy.images("test")))
        batches = [[b.image for b in ImageFolder.test_dataloader(d)] for d in (ready, lazy)]
        assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


def test_unequal_sizes(tmp_path):
    fill(tmp_path, 3, (24, 16))
    fill(tmp_path, 3, (16, 24), start=3)
    one = data(tmp_path, size=None, test_images="all")
    images = one.images("test")
    assert images.shape(0) == (3, 16, 24) and images.shape(5) == (3, 24, 16) and not images.one_shape
    assert images.get([0, 2]).image.shape == (2, 3, 16, 24)
    with pytest.raises(UserError, match="one size, got 16x24 and 24x16"):
        images.get([2, 3])
    with pytest.raises(UserError, match="differ in size: give size and crop"):
        _ = one.shape
    assert [b.index.tolist() for b in one.test_dataloader()] == [[0, 1, 2], [3], [4, 5]]
    with pytest.raises(UserError, match=r"set batch_size to 1 \(got 4\)"):
        data(tmp_path, size=None, test_images=0).train_dataloader()
    assert len(list(data(tmp_path, size=None, test_images=0, batch_size=1).train_dataloader())) == 6


def test_shape_without_a_size_where_all_are_equal(tmp_path):
    assert data(fill(tmp_path, 4), size=None).shape == (3, 16, 24)


@pytest.mark.parametrize("memory_limit_mb", [2048, 0])
def test_broken_files_are_named_and_left_out(tmp_path, memory_limit_mb):
    fill(tmp_path, 8, (64, 64))
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.warns(UserWarning) as caught:
        one = data(tmp_path, test_images=0, memory_limit_mb=memory_limit_mb, batch_size=8, limit=None)
        seen = {i for epoch in range(2) for b in one.train_dataloader() for i in b.index.tolist()}
    text = " ".join(str(w.message) for w in caught)
    assert "3.png" in text and "text.jpg" in text and ("2 of 9 pictures" in text or memory_limit_mb == 0)
    assert seen <= {0, 1, 2, 4, 5, 6, 7} and len(seen) >= 6
    with pytest.raises(UserError, match=r"'.*3\.png' cannot be read"):
        list(
            data(tmp_path, test_images=0, memory_limit_mb=memory_limit_mb, batch_size=9, strict=True).train_dataloader()
        )


def test_a_broken_file_decoded_by_a_worker_stops_a_strict_run_in_one_sentence(tmp_path):
    fill(tmp_path, 4)
    (tmp_path / "0.png").write_bytes(b"x")
    with pytest.raises(UserError) as error:
        list(data(tmp_path, test_images=0, memory_limit_mb=0, strict=True, workers=1).train_dataloader())
    assert "\n" not in str(error.value) and "0.png" in str(error.value)


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="this system has no sigwaitinfo")
def test_workers_that_are_told_to_stop_leave_it_to_the_training(tmp_path):
    """SLURM tells every process of a job step: before, torch ended the training when a worker was gone, in the middle
    of a step and with nothing saved. What ends workers at the end of an epoch still does.
    """
    loader = data(fill(tmp_path), test_images=0, memory_limit_mb=0, workers=2).train_dataloader()
    batches = iter(loader)
    seen = [next(batches)]
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for number in ("TERM", "USR1"):  # of another process
        subprocess.run(["kill", f"-{number}", *(str(w.pid) for w in workers)], check=True)
    seen += batches
    assert len(seen) == 5
    batches = iter(loader)
    next(batches)
    (worker, *_) = multiprocessing.active_children()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


def test_evaluation_of_broken_files_drops_them_and_plain_access_names_them(tmp_path):
    fill(tmp_path, 4)
    (tmp_path / "1.png").write_bytes(b"x")
    one = data(tmp_path, test_images="all", memory_limit_mb=0)
    with pytest.warns(UserWarning, match=r"1\.png"):
        assert [b.index.tolist() for b in one.test_dataloader()] == [[0, 2, 3]]
    with pytest.raises(UserError, match=r"1\.png"):
        one.images("test").get([0, 1])


def test_nothing_but_broken_files(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"none of the 3 pictures .*'0\.png'"):
        data(tmp_path).images("train")


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(UserError, match=f"folder '{tmp_path}/none' is missing"):
        data(tmp_path / "none").prepare_data()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=f"folder '{tmp_path}' has no pictures"):
        data(tmp_path).prepare_data()


def test_modes(tmp_path):
    fill(tmp_path / "c", 4)
    (tmp_path / "g").mkdir()
    for k, picture in enumerate(
        [Image.new("L", (20, 20)), Image.new("1", (20, 20)), Image.fromarray(np.zeros((20, 20), np.uint16))]
    ):
        picture.save(tmp_path / "g" / f"{k}.png")
    grey_palette = Image.new("P", (20, 20), 3)
    grey_palette.putpalette([v for k in range(256) for v in (k, k, k)])
    grey_palette.save(tmp_path / "g" / "palette.png")
    assert data(tmp_path / "c", mode="auto").shape == (3, 16, 16) and data(tmp_path / "g", mode="auto").shape == (
        1,
        16,
        16,
    )
    assert data(tmp_path / "c", mode="grey").images("train").get([0]).image.shape == (1, 1, 16, 16)
    assert all_of(data(tmp_path / "g").images("test")).shape[1] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
        ({"crop": "middle"}, "crop must be center, random or none"),
        ({"mode": "rgb"}, "mode grey, colour or auto"),
        ({"size": None, "crop": "random"}, "size must be given"),
        ({"resize": 8}, r"resize must be 0 or at least size \(16\), got 8"),
        ({"resize": 32, "crop": "none"}, "resize goes with crop center or random"),
        ({"test_images": -1}, "test_images must be at least 0, or all, got -1"),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        data(tmp_path, **options)


def test_pixels_are_kept_between_runs_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("datamodules.pixel_cache.LEAST_FILES", 5)
    fill(tmp_path, 6)
    first = all_of(data(tmp_path, test_images="all").images("test"))
    with monkeypatch.context() as m:
        m.setattr("datamodules.pictures.decode", lambda *_, **__: pytest.fail("decoded again"))
        assert torch.equal(all_of(data(tmp_path, test_images="all").images("test")), first)
    Image.new("RGB", (30, 30), "red").save(tmp_path / "2.png")
    assert all_of(data(tmp_path, test_images="all").images("test"))[2, 0].eq(255).all()
    assert all_of(data(tmp_path, test_images="all", mode="grey").images("test")).shape[1] == 1


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr("datamodules.pixel_cache.LEAST_FILES", 5)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert len(data(fill(tmp_path / "p", 6), test_images="all").images("test")) == 6


def said(monkeypatch) -> list[str]:
    """What the data module says, as it comes."""
    lines: list[str] = []
    monkeypatch.setattr("datamodules.image_folder.rank_zero_info", lines.append)
    return lines


def test_what_is_passed_over_is_said_once(tmp_path, monkeypatch):
    lines = said(monkeypatch)
    fill(tmp_path, 4)
    for name in ("a.heic", "b.HEIC", "notes.txt", "README", ".DS_Store", "._1.png"):
        (tmp_path / name).write_bytes(b"x")
    one = data(tmp_path, test_images="all")
    one.prepare_data()
    assert len(one.images("test")) == 4
    counts = "1 .txt, 2 .heic, 1 hidden, 1 without an ending"
    assert lines == [f"'{tmp_path}': 4 pictures; passed over: {', '.join(sorted(counts.split(', '), key=_by_name))}"]


def _by_name(count: str) -> str:
    return count.split(" ", 1)[1]


def test_a_folder_of_pictures_alone_says_nothing(tmp_path, monkeypatch):
    lines = said(monkeypatch)
    fill(tmp_path / "deep", 4)
    data(tmp_path).prepare_data()
    assert lines == []


def test_subfolders_that_look_as_if_they_meant_something(tmp_path, monkeypatch):
    """Without options they are taken like all others, which is said; with them they are what they are called."""
    lines = said(monkeypatch)
    for name, count in (("train", 5), ("test", 3), ("masks", 2), ("deep", 1)):
        fill(tmp_path / name, count)
    assert len(data(tmp_path, test_images=0).images("train")) == 11
    assert len(lines) == 1 and all(f"'{n}' ({c})" in lines[0] for n, c in (("train", 5), ("test", 3), ("masks", 2)))
    assert "deep" not in lines[0] and "data.train" in lines[0]
    lines.clear()
    data(tmp_path, train="train", test="test").images("train")
    assert lines == []
    data(tmp_path, test="test").images("train")
    assert len(lines) == 1 and "'test'" not in lines[0] and "'masks' (2)" in lines[0]


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_linked_file_counts_once_by_its_own_name(tmp_path, monkeypatch, kind):
    """Or the same picture would be trained on and tested."""
    lines = said(monkeypatch)
    fill(tmp_path, 3)
    for name in ("0again.png", "deep"):
        if name == "deep":
            (tmp_path / "deep").mkdir()
        link = tmp_path / ("deep/1.png" if name == "deep" else name)
        link.symlink_to(tmp_path / "1.png") if kind == "symbolic" else link.hardlink_to(tmp_path / "1.png")
    one = data(tmp_path, test_images="all").images("test")
    names = [one.name(row) for row in range(len(one))]
    assert len(names) == 3 and (kind == "hard" or names == ["0.png", "1.png", "2.png"])
    assert "2 linked again" in lines[0]
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(UserWarning, match=r"1 of 4 pictures .*gone\.png"):
        data(tmp_path, test_images="all").images("test")


@pytest.mark.parametrize("memory_limit_mb", [0, 2048])
def test_a_picture_that_is_too_large_is_called_so(tmp_path, memory_limit_mb):
    fill(tmp_path, 3)
    (tmp_path / "huge.png").write_bytes(too_large())
    with pytest.warns(UserWarning, match=r"huge\.png.*too large.*900000000 pixels"):
        one = data(tmp_path, test_images="all", size=None, memory_limit_mb=memory_limit_mb)
        assert len(one.images("test")) == 3


def test_real_pictures(real_data):
    one = data("restoration/Set14", size=None, test_images="all", batch_size=1)
    images = one.images("test")
    assert len(images) == 14 and images.shape([images.name(r) for r in range(14)].index("baboon.png")) == (3, 480, 500)
