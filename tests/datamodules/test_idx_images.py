"""IDX files: plain or gzipped, read-only, missing, broken, without a network; and the real ones."""

import gzip
import os
import stat
import time

import numpy as np
import pytest
import torch

from common.errors import UserError
from datamodules import idx
from datamodules.fashion_mnist import FashionMNIST
from datamodules.mnist import MNIST


def write(path, values: np.ndarray, packed: bool) -> None:
    content = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.with_name(path.name + ".gz") if packed else path).write_bytes(gzip.compress(content) if packed else content)


def fill(folder, packed: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    for k, (part, n) in enumerate({"train": 30, "test": 7}.items()):
        images, labels = idx.FILES[part]
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        write(folder / images, pixels, packed)
        write(folder / labels, (np.arange(n) % 10).astype(np.uint8), packed and k == 0)
    return pixels


@pytest.mark.parametrize("packed", [False, True])
def test_read_only_folder_in_either_form(tmp_path, packed):
    raw = tmp_path / "MNIST" / "raw"
    pixels = fill(raw, packed)
    for path in [*raw.iterdir(), raw, tmp_path]:
        path.chmod(path.stat().st_mode & ~stat.S_IWUSR)
    before = sorted(os.listdir(raw))
    try:
        data = MNIST(data_dir=str(tmp_path), validation=4)
        data.prepare_data()
        data.setup("fit")
        test = data.images("test")
        assert torch.equal(test.get([0, 6]).image[:, 0], torch.from_numpy(pixels[[0, 6]]))
        assert (
            test.get([6]).label.item() == 6 and len(data.images("train")) == 26 and len(data.images("validation")) == 4
        )
        assert sorted(os.listdir(raw)) == before
    finally:
        for path in [tmp_path, raw]:
            path.chmod(0o755)


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_missing_and_no_network(tmp_path, kind, monkeypatch):
    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    begin = time.perf_counter()
    with pytest.raises(
        UserError, match=rf"train-images-idx3-ubyte\.gz.*'{tmp_path}/{kind.__name__}/raw'.*download failed"
    ) as error:
        kind(data_dir=str(tmp_path)).prepare_data()
    assert time.perf_counter() - begin < 10 and "\n" not in str(error.value)


def test_missing_without_download_names_the_file(tmp_path):
    data = MNIST(data_dir=str(tmp_path), download=False)
    data.prepare_data()
    with pytest.raises(
        UserError, match=rf"'{tmp_path}/MNIST/raw/t10k-images-idx3-ubyte' \(or 't10k-images-idx3-ubyte.gz'\) is missing"
    ):
        data.setup("test")


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_short_or_foreign_is_named(tmp_path, packed):
    raw = tmp_path / "MNIST" / "raw"
    fill(raw, packed)
    path = idx.find(raw, idx.FILES["test"][0])
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"<html>not found</html>", b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=f"'{path}' is broken or not an IDX file"):
            MNIST(data_dir=str(tmp_path)).images("test")


def test_images_and_labels_of_different_sets(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    fill(raw, False)
    write(raw / idx.FILES["test"][1], np.zeros(8, np.uint8), False)
    with pytest.raises(UserError, match="do not belong together"):
        MNIST(data_dir=str(tmp_path)).images("test")


def test_unwritable_data_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="data_dir"):
        MNIST(data_dir=str(tmp_path / "file")).prepare_data()


@pytest.mark.parametrize(
    ("kind", "train", "test"),
    [
        (MNIST, [5, 0, 4, 1, 9, 2, 1, 3], [7, 2, 1, 0, 4, 1, 4, 9]),
        (FashionMNIST, [9, 0, 0, 3, 0, 2, 7, 2], [9, 2, 1, 1, 6, 1, 4, 6]),
    ],
)
def test_real_files(real_data, kind, train, test):
    data = kind(validation=0)
    data.prepare_data()
    images, held_out = data.images("train"), data.images("test")
    assert (len(images), len(held_out)) == (60000, 10000)
    assert images.get(list(range(len(train)))).label.tolist() == train
    assert held_out.get(list(range(len(test)))).label.tolist() == test
    if kind is MNIST:
        assert abs(images.store.pixels.double().mean().item() / 255 - 0.1307) < 5e-5
