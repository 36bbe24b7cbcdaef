"""Masks of a split in a file, and weights of regions: what is missing, and what a config makes of them."""

import functools
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT

from common.build import build
from common.errors import UserError
from common.yaml_files import merge, read_yaml
from datamodules.digits import Digits
from datamodules.store import MemoryStore, everything
from degradations.stored_masks import StoredMasks, read_masks, write_masks
from diffusion.masked_training import MaskedLoss, MaskedTraining
from evaluation.cells import make_cells
from evaluation.config import read_config
from evaluation.plan import make_plan
from studies import masks, regions
from tests.evaluation.test_config import stand_in


def square() -> torch.Tensor:
    """A bright square of 16x16 in 32x32."""
    image = torch.full((1, 32, 32), 20, dtype=torch.uint8)
    image[:, 8:24, 8:24] = 200
    return image


def test_centre_and_boundary_of_a_square():
    inside = masks.foreground(square())
    assert inside.sum() == 256 and inside[8:24, 8:24].all()
    edge = masks.boundary(square())
    assert not edge[12:20, 12:20].any() and not edge[:5].any()
    assert edge[16, 5:11].all() and not edge[16, [4, 11]].any()  # two lines of the edge, and two on each side of them
    assert not masks.foreground(torch.full((3, 4, 4), 9, dtype=torch.uint8)).any()


def test_as_a_command(tmp_path, monkeypatch, capsys):
    for family in ("centre", "{class_path: degradations.box_mask.BoxMask, init_args: {size: 3}}"):
        argv = ["masks", "--data", "datamodules.digits.Digits", "--family", family, "--output", str(tmp_path / "a.npz")]
        monkeypatch.setattr(sys, "argv", argv)
        masks.main()
        index, known = read_masks(str(tmp_path / "a.npz"))
        images = Digits().images("test")
        assert index.tolist() == images.store.index[images.positions].tolist() and known.shape[1:] == (8, 8)
        assert "SHA-256" in capsys.readouterr().out
    assert bool((known.sum((1, 2)) == 64 - 9).all())
    StoredMasks(path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("center", r"no family of masks 'center' \(did you mean 'centre'\?\)"),
        ("degradations.average_pool.AveragePool", "needs the option 'factor'"),
        ("degradations.grey.Grey", r"grey|channels"),
        ("{class_path: degradations.average_pool.AveragePool, init_args: {factor: 2}}", "keeps no single pixels"),
        ("", "no family of masks ''"),
        ("{class_path: degradations", "--family must be a class path"),
        ("[boundary]", "--family: expected a class path"),
    ],
)
def test_what_is_no_mask(family, words):
    images = everything(MemoryStore(square()[None]))
    with pytest.raises(UserError, match=words):
        masks.known_pixels(images, family)


def test_regions_where_there_seldom_is_something(tmp_path, monkeypatch):
    """r is 1 inside of the square, 0 outside: (1.01 / 0.01)^(1/2) = 10 times the weight."""
    share = regions.filled_share(everything(MemoryStore(torch.stack([square(), square()]))), 127.5)
    weight = regions.region_weights(share, 0.5)
    assert float(weight.mean()) == pytest.approx(1)
    assert float(weight[0, 0] / weight[16, 16]) == pytest.approx(101**0.5, rel=1e-6)
    assert bool((regions.region_weights(share, 0.0) == 1).all())
    config = tmp_path / "config.yaml"
    config.write_text("data: {class_path: datamodules.digits.Digits}\n")
    monkeypatch.setattr(sys, "argv", ["regions", "--config", str(config), "--output", str(tmp_path / "sub/r.npz")])
    regions.main()
    with np.load(tmp_path / "sub/r.npz") as file:
        assert file["weight"].shape == (8, 8) and file["weight"].mean() == pytest.approx(1)


def test_the_shipped_config_of_regions(tmp_path, monkeypatch):
    """As its header has the two commands."""
    names = ("train/masked_mnist_m1.yaml", "sweeps/fragments/masks_by_regions.yaml")
    model = functools.reduce(merge, (read_yaml(ROOT / "configs" / path) for path in names))["model"]["init_args"]
    assert len(model["masks"]) == 4
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no file of regions 'regions/mnist\.npz'"):
        build(model["variant"], MaskedTraining, where="model.variant")
    (tmp_path / "regions").mkdir()
    np.savez("regions/mnist.npz", weight=np.ones((28, 28)))
    assert isinstance(build(model["variant"], MaskedTraining, where="model.variant"), MaskedLoss)


def test_the_shipped_tasks_of_what_is_in_the_images(tmp_path):
    """configs/sweeps/fragments/masked_semantic_tasks.yaml on top of the comparison of priors that know masks."""
    paths = [ROOT / "configs/evaluate/masked_mnist.yaml", ROOT / "configs/sweeps/fragments/masked_semantic_tasks.yaml"]
    write_masks(tmp_path / "masks.npz", torch.arange(10_000), torch.ones(10_000, 28, 28))
    given = [
        (f"tasks.{name}.degradation.init_args.path", str(tmp_path / "masks.npz")) for name in ("centre", "boundary")
    ]
    plan = make_plan(stand_in(read_config(paths, given), tmp_path))
    assert {"centre", "boundary"} <= set(plan.tasks) and {c.refusal for c in make_cells(plan)} == {None}
