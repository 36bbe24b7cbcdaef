"""Groups of training images: what K-means finds, and the file that a data set reads."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from datamodules.reweighting import Reweighting
from datamodules.store import MemoryStore, everything
from studies.clusters import clusters, write_clusters


def test_clusters_by_size_and_their_file(tmp_path):
    rows = np.concatenate([np.full((3, 2), 9.0), np.full((7, 2), 0.0), np.full((5, 2), -9.0)])
    rows = torch.from_numpy(rows + np.random.default_rng(0).normal(size=rows.shape) * 0.1)
    group = clusters(rows, 3)
    assert group.tolist() == [2] * 3 + [0] * 7 + [1] * 5
    write_clusters(tmp_path / "groups.npz", torch.arange(15), group)
    images = everything(MemoryStore(torch.zeros(15, 1, 1, 1, dtype=torch.uint8)))
    assert torch.equal(Reweighting(by=str(tmp_path / "groups.npz")).groups(images), group)


def test_more_groups_than_images():
    with pytest.raises(UserError, match="--count must lie in"):
        clusters(torch.zeros(3, 2), 4)
