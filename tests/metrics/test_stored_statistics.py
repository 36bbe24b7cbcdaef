"""clean-fid's own statistics as a reference: written in its layout from random features, beside its own distances."""

import cleanfid
import numpy as np
import pytest
import torch
from cleanfid.features import get_reference_statistics
from cleanfid.fid import fid_from_feats, kernel_distance

from common.errors import UserError
from metrics import stored_statistics
from metrics.base import Missing
from metrics.features import FeatureNetwork, Features
from metrics.fid import FID, FIDWithoutBias
from metrics.kid import KID

NAME = "cifar10_clean_train_32"
SHAPE = (3, 32, 32)


class Inception(FeatureNetwork):
    """By name alone: features are given."""

    name, fingerprint, dimension = "inception", "0", 12

    def check(self, shape):
        pass

    def to(self, device):
        return self

    def of(self, images):
        raise NotImplementedError


def features(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.maximum(generator.normal(size=(count, 12)) @ np.random.default_rng(5).normal(size=(12, 12)), 0).astype(
        np.float32
    )


def write(folder, values: np.ndarray, name: str = NAME) -> None:
    """As clean-fid's make_custom_stats does."""
    np.savez_compressed(folder / f"{name}.npz", mu=np.mean(values, axis=0), sigma=np.cov(values, rowvar=False))
    np.savez_compressed(folder / f"{name}_kid.npz", feats=values)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """WEIGHTS_DIR; nothing lies in the other places."""
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(stored_statistics, "_of_clean_fid", lambda name: tmp_path / "stats" / name)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def tensors(values: np.ndarray) -> Features:
    return Features(torch.from_numpy(values))


@pytest.mark.parametrize("paired", [False, True])
def test_equal_to_clean_fids_own_distances(paired, folder):
    """Whatever else the reference is, also where restored images stand beside their truths."""
    theirs, ours, other = features(400, 0), features(200, 1), tensors(features(200, 2))
    write(folder, theirs)
    fid, kid = (cls(features=Inception(), statistics=NAME) for cls in (FID, KID))
    found = fid.compute(tensors(ours), other, paired=paired)
    assert found.value == pytest.approx(fid_from_feats(ours, theirs), rel=1e-5) and found.low < found.value < found.high
    curve = fid.by_images(tensors(ours), other, paired=paired)
    assert curve[-1] == (200, pytest.approx(found.value)) and curve[0][1] > 1.1 * found.value
    write(folder, theirs[:200])  # their subsets are as large as the smaller set
    kid = KID(features=Inception(), statistics=NAME)
    value = kid.compute(tensors(ours), other, paired=paired).value
    expected = kernel_distance(theirs[:200].astype(float), ours.astype(float), num_subsets=1)
    assert value == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_limit_is_against_them_too(folder):
    write(folder, features(4000, 0))
    other = tensors(3 + features(300, 2))
    near = FIDWithoutBias(features=Inception(), statistics=NAME).compute(tensors(features(300, 1)), other).value
    far = FIDWithoutBias(features=Inception()).compute(tensors(features(300, 1)), other).value
    assert abs(near) < 1 and far > 50


def test_name_and_layout_are_those_that_clean_fid_reads(folder, tmp_path, monkeypatch):
    """Its own reader takes the file, and ours takes it from where clean-fid keeps it."""
    (tmp_path / "stats").mkdir()
    write(tmp_path / "stats", features(50, 0))
    monkeypatch.setattr(cleanfid, "__file__", str(tmp_path / "__init__.py"))
    theirs = get_reference_statistics("cifar10", 32, mode="clean", split="train")
    assert theirs is not None
    mu, sigma = theirs
    stored = stored_statistics.StoredStatistics(NAME)
    moments = stored.moments(12)
    np.testing.assert_allclose(moments.mean, mu)
    np.testing.assert_allclose(moments.covariance, sigma)
    rows = stored_statistics.StoredStatistics(NAME, rows=True).features(12, 50)
    theirs = get_reference_statistics("cifar10", 32, mode="clean", split="train", metric="KID")
    assert theirs is not None
    assert {tuple(r) for r in rows.tolist()} == {tuple(r) for r in theirs.tolist()}


def test_a_part_of_the_rows_is_not_the_first_ones(folder):
    values = np.arange(100, dtype=np.float32)[:, None].repeat(12, 1)
    write(folder, values)
    found = [stored_statistics.StoredStatistics(NAME, rows=True).features(12, 20)[:, 0] for _ in range(2)]
    assert torch.equal(*found) and len(set(found[0].tolist())) == 20 and float(found[0].mean()) > 25


def test_the_fingerprint_knows_name_and_file_and_old_ones_stay(folder):
    write(folder, features(50, 0))
    write(folder, features(50, 0), "cifar10_clean_test_32")
    prints = [FID(features=Inception(), statistics=n).fingerprint() for n in (None, NAME, "cifar10_clean_test_32")]
    write(folder, features(50, 1))
    prints.append(FID(features=Inception(), statistics=NAME).fingerprint())
    assert len(set(prints)) == 4
    assert FID(features=Inception()).fingerprint() == FID(features=Inception(), statistics=None).fingerprint()
    assert FID(features=Inception(), statistics=NAME).label == f"FID, {NAME}"


def test_a_file_that_is_not_there_is_missing_with_its_places(folder):
    metric = KID(features=Inception(), statistics=NAME)
    for call in (
        lambda: metric.check(SHAPE),
        lambda: metric.compute(tensors(features(20, 0)), tensors(features(9, 0))),
    ):
        with pytest.raises(
            Missing, match=rf"statistics {NAME}_kid.npz is not there .*{folder}.*--prepare.*fetch https"
        ):
            call()
    assert KID.weight_files({"statistics": NAME})[0].name == f"{NAME}_kid.npz"
    assert FID.weight_files({"statistics": NAME})[0].url.endswith(f"/stats/{NAME}.npz")
    assert FID.weight_files({}) == FID.weight_files({"statistics": "mine_clean_custom_na"}) == ()
    with pytest.raises(Missing, match=r"not there .*: write it with clean-fid's make_custom_stats"):
        FID(features=Inception(), statistics="mine_clean_custom_na").check(SHAPE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "write DATA_clean_SPLIT_SIDE, as cifar10_clean_train_32"),
        ("cifar10_clean_train_32.npz", "write DATA_clean_SPLIT_SIDE"),
        ("../cifar10_clean_train_32", "write DATA_clean_SPLIT_SIDE"),
        ("cifar10_legacy_tensorflow_train_32", "resized in the mode legacy_tensorflow, .* give cifar10_clean_train_32"),
        ("ffhq_clean_clip_vit_b_32_train_256", "are of CLIP, .* give ffhq_clean_train_256"),
    ],
)
def test_another_name_mode_or_network_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        FID(features=Inception(), statistics=name)


def test_other_images_networks_and_data_are_refused(folder):
    write(folder, features(50, 0))
    metric = FID(features=Inception(), statistics=NAME)
    metric.check(SHAPE)
    with pytest.raises(UserError, match=r"are of images of 32x32, these have 64x64: give"):
        metric.check((3, 64, 64))
    classifier = Inception()
    classifier.name = "classifier_cifar10"
    with pytest.raises(UserError, match=r"of the features of Inception, not of 'classifier_cifar10': give"):
        FID(features=classifier, statistics=NAME).check(SHAPE)
    for good in (("CIFAR10", "train"), (None, None), ("CIFAR10", None)):
        metric.check_data(*good)
    with pytest.raises(UserError, match=r"of the data set cifar10, these images of FashionMNIST: give"):
        metric.check_data("FashionMNIST", "train")
    with pytest.raises(UserError, match=r"of the split train, the reference is test: make them equal"):
        metric.check_data("CIFAR10", "test")
    write(folder, features(50, 0), "mine_clean_custom_na")
    own = FID(features=Inception(), statistics="mine_clean_custom_na")
    own.check((3, 64, 64))
    own.check_data("FashionMNIST", "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mu": np.zeros(9), "sigma": np.eye(9)}, r"has \[9\] numbers, and the network 12 features"),
        ({"mu": np.zeros(12), "sigma": np.eye(9)}, r"has \[9, 9\] numbers"),
        ({"mu": np.full(12, np.nan), "sigma": np.eye(12)}, "not finite: fetch it again"),
        ({"mu": np.zeros(12)}, "not a file of clean-fid's with mu and sigma, or is damaged: fetch it again"),
        ({"mu": np.array([{}]), "sigma": np.eye(12)}, "or is damaged: fetch it again"),
        (b"", "or is damaged: fetch it again"),
        (b"PK\x03\x04 cut", "or is damaged: fetch it again"),
    ],
)
def test_a_file_of_no_use_is_one_sentence(content, message, folder):
    path = folder / f"{NAME}.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez_compressed(path, **content)
    with pytest.raises(UserError, match=message) as error:
        FID(features=Inception(), statistics=NAME).check(SHAPE)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
