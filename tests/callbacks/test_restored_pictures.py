"""The best iterate of every stage of a criterion, in a picture of its own."""

import numpy as np
import pytest
import torch
from dip_worlds import every_callback, fitted, tiny_pictures, tiny_prior
from PIL import Image

from callbacks.restored_pictures import RestoredPictures, Stages
from common.image_range import to_uint8
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
