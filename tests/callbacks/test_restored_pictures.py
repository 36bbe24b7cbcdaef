"""The best iterate of every stage of a criterion in a picture of its own, and the PSNR of what a mask hides."""

import csv

import numpy as np
import pytest
import torch
from dip_worlds import every_callback, fitted, tiny_pictures, tiny_prior
from PIL import Image

from callbacks.restored_pictures import RestoredPictures, Stages
from common.image_range import to_uint8
from degradations.box_mask import BoxMask
from lightning_modules.deep_image_prior import DeepImagePrior
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping


def three_levels(iterations: int = 100):
    """Steps so large that every fit is soon at its best."""
    stopping = MultiNoiseEarlyStopping(levels=[2, 1, 0.5], patience=1, smooth=1, kappa=1.0)
    return tiny_prior(iterations=iterations, stopping=stopping, learning_rate=1.0, averaging=0.0, backtrack_db=0.0)


class Watched(RestoredPictures):
    """Also notes, by itself, the answer of every iteration and the stage that it was found in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, list[tuple[int, torch.Tensor]]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        assert isinstance(pl_module, DeepImagePrior)
        for group in pl_module.active:
            for k, row in enumerate(group.rows):
                self.seen.setdefault(row, []).append((int(group.fit.watch.stage[k]), group.fit.answer[k].clone()))


@pytest.mark.filterwarnings("ignore:the last of 3 levels")
def test_the_best_iterate_of_each_stage_is_kept(tmp_path):
    """The answer before the first iteration of the next stage is the best one of the stage that ended."""
    callbacks = every_callback()
    watched = Watched()
    callbacks[5] = watched
    module = three_levels()
    fitted(tmp_path, module, tiny_pictures(2), callbacks=callbacks)
    for row, seen in watched.seen.items():
        kept = watched._stages[row].kept
        assert [stage for stage, _, _ in kept] == [0, 1, 2], "the levels in their order, the picture itself is last"
        for stage, iteration, pixels in kept:
            begins = next(i for i, (s, _) in enumerate(seen) if s > stage)
            assert torch.equal(pixels, to_uint8(seen[begins][1])) and iteration >= 1
        group, k = next((g, g.rows.index(row)) for g in module.groups if row in g.rows)
        sheet = np.array(Image.open(tmp_path / "restored" / f"{group.names[k]}_stages.png"))
        assert sheet.shape[1] == 4 * (192 + 8) + 8, "three stages and the answer"


@pytest.mark.filterwarnings("ignore:the last of 3 levels")
def test_stages_of_a_run_that_was_stopped_are_those_of_one_that_was_not(tmp_path):
    fitted(tmp_path / "whole", three_levels(), tiny_pictures(1))
    fitted(tmp_path / "run", three_levels(), tiny_pictures(1), max_steps=30)
    ckpt = next((tmp_path / "run").rglob("last.ckpt"))
    fitted(tmp_path / "run", three_levels(), tiny_pictures(1), ckpt=ckpt)
    whole, again = (sorted((tmp_path / name / "restored").glob("*_stages.png")) for name in ("whole", "run"))
    assert len(whole) == len(again) == 1
    assert np.array_equal(np.array(Image.open(whole[0])), np.array(Image.open(again[0])))


def test_a_criterion_without_stages_has_no_such_picture(tmp_path):
    fitted(tmp_path, tiny_prior(), tiny_pictures(1))
    assert list((tmp_path / "restored").glob("*_iterates.png"))
    assert not list((tmp_path / "restored").glob("*_stages.png"))


def test_a_stage_that_was_left_out_is_no_stage():
    """The limit may send a picture from any stage to the last fit."""
    stages = Stages()
    best = torch.tensor([7, 0, 0])
    stages(0, best, torch.zeros(1, 2, 2))
    stages(3, best, torch.ones(1, 2, 2))
    assert [(stage, iteration) for stage, iteration, _ in stages.kept] == [(0, 7)]
    assert stages.shown()[0][0] == "fit 1, iteration 7"


def read_rows(path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_the_missing_pixels_have_a_psnr_of_their_own(tmp_path):
    """That of the 8-bit answer inside the box, for each picture and in the mean; without a mask none is told."""
    module, data = tiny_prior(iterations=12), tiny_pictures(2, degradation=BoxMask(size=6))
    trainer = fitted(tmp_path / "box", module, data, log_every_n_steps=1)
    rows = read_rows(tmp_path / "box/restored/pictures.csv")
    for group, k in module.pictures:
        hidden = group.fit.measurement.pick([k]).operator.mask[0, 0] == 0
        assert hidden.sum() == 36
        answer, truth = (to_uint8(x[k]).double()[0][hidden] for x in (group.fit.answer, group.truth))
        expected = 10 * float(torch.log10(255**2 / (answer - truth).square().mean()))
        assert float(rows[group.rows[k]]["psnr_missing"]) == pytest.approx(expected, abs=1e-3)
    mean = float(trainer.callback_metrics["restored/psnr_missing"])
    assert mean == pytest.approx(sum(float(r["psnr_missing"]) for r in rows) / 2, abs=1e-3)

    trainer = fitted(tmp_path / "all", tiny_prior(iterations=12), tiny_pictures(1), log_every_n_steps=1)
    assert read_rows(tmp_path / "all/restored/pictures.csv")[0]["psnr_missing"] == ""
    assert "restored/psnr_missing" not in trainer.callback_metrics
