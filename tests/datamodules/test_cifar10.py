"""CIFAR-10 as folders and as torchvision's batches."""

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import UserError
from datamodules.cifar10 import CIFAR10, CLASSES


def fill(root, names: dict[str, str]) -> None:
    """One picture each, filled with a colour that says its place in `names`."""
    for k, (name, label) in enumerate(names.items()):
        path = root / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (k, 100 + k, 200)).save(path)


def test_number_in_the_name_is_the_index(tmp_path):
    fill(
        tmp_path / "cifar10" / "test",
        {"00007.png": "cat", "00000.png": "truck", "00012.png": "airplane", "00003.png": "cat"},
    )
    images = CIFAR10(data_dir=str(tmp_path)).images("test")
    batch = images.get([0, 1, 2, 3])
    assert batch.index.tolist() == [0, 3, 7, 12] and batch.label.tolist() == [9, 3, 3, 0]
    assert batch.image[:, :, 5, 5].tolist() == [[1, 101, 200], [3, 103, 200], [0, 100, 200], [2, 102, 200]]
    assert images.name(0) == "truck/00000.png"


@pytest.mark.parametrize("names", [{"1.png": "cat", "a.png": "bird"}, {"1.png": "cat", "01.png": "bird"}])
def test_otherwise_the_position(tmp_path, names):
    fill(tmp_path / "cifar10" / "train", names)
    batch = CIFAR10(data_dir=str(tmp_path), validation=0).images("train").get([0, 1])
    assert batch.index.tolist() == [0, 1] and batch.label.tolist() == [2, 3]


def test_an_unknown_class_and_another_size_are_refused(tmp_path):
    fill(tmp_path / "cifar10" / "test", {"1.png": "cats"})
    with pytest.raises(UserError, match=r"in no class folder \(did you mean 'cat'\?\)"):
        CIFAR10(data_dir=str(tmp_path)).images("test")
    Image.new("RGB", (64, 64)).save(tmp_path / "big.png")
    (tmp_path / "cifar10" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "big.png").rename(tmp_path / "cifar10" / "train" / "cat" / "1.png")
    with pytest.raises(UserError, match="64x64 pixels, not 32x32"):
        CIFAR10(data_dir=str(tmp_path)).images("train")


def test_missing(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    layouts = rf"'{tmp_path}/cifar-10-batches-py' or '{tmp_path}/cifar10/.train,test./CLASS/\*.png'"
    with pytest.raises(UserError, match=rf"{layouts}.*download failed"):
        CIFAR10(data_dir=str(tmp_path)).prepare_data()
    with pytest.raises(UserError, match=f"'{tmp_path}/cifar10/train/CLASS/.*' is missing"):
        CIFAR10(data_dir=str(tmp_path), download=False).images("train")


def test_torchvisions_layout(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match=r"cifar-10-batches-py' is incomplete or damaged"):
        CIFAR10(data_dir=str(tmp_path)).images("test")

    class Fake:
        data = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
        targets = [3, 8, 8, 0, 6, 6]

    monkeypatch.setattr("datamodules.cifar10._torchvision", lambda *_, **__: Fake)
    batch = CIFAR10(data_dir=str(tmp_path)).images("test").get([4, 1])
    assert torch.equal(batch.image, torch.from_numpy(Fake.data[[4, 1]]).permute(0, 3, 1, 2))
    assert batch.label.tolist() == [6, 8] and batch.index.tolist() == [4, 1]


def test_real_files(real_data):
    data = CIFAR10(memory_limit_mb=0)  # decoded when read: no need to decode 10,000 here
    images = data.images("test")
    labels = images.get(list(range(5))).label.tolist()
    assert len(images) == 10000 and [CLASSES[k] for k in labels] == ["cat", "ship", "ship", "airplane", "frog"]
    assert images.get([9999]).index.item() == 9999
