"""Groups of training images: what K-means finds, and the file that a data set reads."""

import functools

import numpy as np
import pytest
import torch
from helpers import ROOT

from common.errors import UserError
from common.yaml_files import merge, read_yaml
from datamodules.reweighting import Reweighting
from datamodules.store import MemoryStore, everything
from studies.clusters import clusters, data_and_file, write_clusters


def test_clusters_by_size_and_their_file(tmp_path):
    rows = np.concatenate([np.full((3, 2), 9.0), np.full((7, 2), 0.0), np.full((5, 2), -9.0)])
    rows = torch.from_numpy(rows + np.random.default_rng(0).normal(size=rows.shape) * 0.1)
    group = clusters(rows, 3)
    assert group.tolist() == [2] * 3 + [0] * 7 + [1] * 5
    write_clusters(tmp_path / "groups.npz", torch.arange(15), group)
    images = everything(MemoryStore(torch.zeros(15, 1, 1, 1, dtype=torch.uint8)))
    assert torch.equal(Reweighting(by=str(tmp_path / "groups.npz")).groups(images), group)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_the_shipped_configs_name_the_file(name):
    """As the sweeps' headers have the command: without --output."""
    names = (f"train/long_tailed_{name}.yaml", f"sweeps/fragments/long_tail_by_clusters_{name}.yaml")
    config = functools.reduce(merge, (read_yaml(ROOT / "configs" / path) for path in names))
    spec, path = data_and_file(config["data"], "here")
    assert path == f"clusters/long_tailed_{name}.npz"
    assert "reweighting" not in spec["init_args"] and spec["init_args"]["long_tail"] == 100


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "here names no data"),
        ({"init_args": {}}, "here names no data"),
        ({"class_path": "datamodules.digits.Digits", "init_args": [1]}, "init_args must be a mapping"),
    ],
)
def test_what_is_no_data(data, words):
    with pytest.raises(UserError, match=words):
        data_and_file(data, "here")


def test_data_without_a_file():
    name = "datamodules.digits.Digits"
    assert data_and_file(name, "here") == ({"class_path": name, "init_args": {}}, None)
    options = {"reweighting": "datamodules.reweighting.Reweighting"}
    assert data_and_file({"class_path": name, "init_args": options}, "here")[1] is None


def test_more_groups_than_images():
    with pytest.raises(UserError, match="--count must lie in"):
        clusters(torch.zeros(3, 2), 4)
