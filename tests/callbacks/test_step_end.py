"""A run that is stopped anywhere, at any step, and goes on is the undisturbed run: weights, rows, grids, measures."""

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from helpers import tiny_digits, tiny_trainer

from callbacks.ema import EMA
from callbacks.generation_quality import GenerationQuality
from callbacks.metrics_csv import MetricsCSV
from callbacks.preemption import Preempted, Preemption
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from callbacks.sample_grid import SampleGrid
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine
from lightning_modules.ddpm import DDPM
from networks.unet import UNet

STEPS = 8  # epochs of 4 steps; a validation at 3 and 6 by "step", at the end of each epoch by "epoch"
PLACES = ("step", "validation", "grid", "quality")


class Killed(BaseException):
    """What SIGKILL does to a run: nothing is saved, nothing is said."""


class Quality(GenerationQuality):
    """Measures nothing, every second step, and logs how often."""

    def __init__(self, disturb):
        super().__init__()
        self.num_images, self.every_n_steps, self.disturb = 4, 2, disturb

    def setup(self, trainer, pl_module, stage):
        super(GenerationQuality, self).setup(trainer, pl_module, stage)

    def _measure(self, trainer, pl_module):
        self.disturb("quality", trainer.global_step)
        for logger in trainer.loggers:
            logger.log_metrics({"quality/fid": 1.0}, step=trainer.global_step)


def train(folder: Path, *, often: dict, disturb=lambda place, step: None) -> dict:
    """Train to the end, from the checkpoint in the folder where there is one; what came of it."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=4, multipliers=[1], blocks=1, attention=[], groups=2, dropout=0.1)
    model = DDPM(
        network=network, schedule=Cosine(), data_shape=[1, 8, 8], sampler=DDIM(), sampling_steps=1, warmup_steps=1
    )
    path, log = folder / "checkpoints" / "last.ckpt", MetricsCSV(folder)
    stored = torch.load(path, weights_only=True) if path.exists() else {"global_step": 0, "metrics_rows": 0}
    log.resume_at(stored["global_step"], stored["metrics_rows"])
    losses, validate, draw = model.losses, model.validation_step, model.samples

    def watched(place, inner, shift):
        def call(*args, **kwargs):
            disturb(place, model.global_step + shift)
            return inner(*args, **kwargs)

        return call

    model.losses, model.samples = watched("step", losses, 1), watched("grid", draw, 0)
    model.validation_step = watched("validation", validate, 0)
    own = (
        EMA(),
        SampleGrid(count=2, every=2),
        Quality(disturb),
        Preemption(),
        RunCheckpoint(every_n_steps=3, keep_every_n_steps=4),
    )
    trainer = tiny_trainer(
        folder,
        *own,
        logger=log,
        log_every_n_steps=1,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=True,
        **often,
    )
    trainer.fit(model, datamodule=tiny_digits(), ckpt_path=path if path.exists() else None)
    with open(log.path) as file:
        rows = [(r["step"], r["epoch"], *sorted(r.items())) for r in csv.DictReader(file)]
    grids = {p.name: p.read_bytes() for p in sorted((folder / "samples").iterdir())}
    kept = sorted(p.name for p in path.parent.glob("step_*"))
    return {"kept": kept, "rows": rows, "grids": grids, "raw": model.state_dict(), "average": model.average.weights()}


OFTEN = {
    "step": {"val_check_interval": 3, "max_steps": STEPS},
    "last": {"val_check_interval": 4, "max_steps": STEPS},
    "epoch": {"check_val_every_n_epoch": 1, "val_check_interval": 1.0, "max_epochs": 2, "max_steps": -1},
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return {name: train(tmp_path_factory.mktemp(name), often=often) for name, often in OFTEN.items()}


def same(found: dict, expected: dict) -> None:
    assert found["rows"] == expected["rows"]
    assert found["grids"] == expected["grids"]
    assert found["kept"] == expected["kept"] == ["step_0000004.ckpt", "step_0000008.ckpt"]
    for kind in ("raw", "average"):
        assert all(torch.equal(value, found[kind][name]) for name, value in expected[kind].items()), kind


def stopped(folder: Path, often: str, places: set[str], stop, steps: range = range(1, STEPS + 1)) -> tuple[dict, list]:
    """Train with a stop at each of the places, once at every step at which it is come to; what came of it, and where it
    was stopped.
    """
    met: list[tuple[str, int]] = []

    def disturb(place, step):
        if place in places and step in steps and (place, step) not in met:
            met.append((place, step))
            stop()

    while True:
        try:
            return train(folder, often=OFTEN[often], disturb=disturb), met
        except (Preempted, Killed) as leaving:
            assert isinstance(leaving, Killed) or leaving.code == 75
            assert len(met) < 40, "it comes nowhere"


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def killed() -> None:
    raise Killed


def test_stopped_at_every_step(undisturbed, tmp_path):
    """In every step, every validation, every grid and every measurement, one stop after the other."""
    found, met = stopped(tmp_path, "step", set(PLACES), terminated)
    same(found, undisturbed["step"])
    steps = {place: [step for where, step in met if where == place] for place in PLACES}
    due = {"step": list(range(1, STEPS + 1)), "validation": [3, 6], "grid": [3], "quality": [2, 4, 6, 8]}
    assert steps == due


@pytest.mark.parametrize("often", ["last", "epoch"])
@pytest.mark.parametrize("first", ["step", "validation"])
def test_stopped_at_the_end_of_an_epoch_and_of_the_run(often, first, undisturbed, tmp_path):
    found, met = stopped(tmp_path, often, {first, "quality"}, terminated, range(8, 9))
    assert met == [(first, 8), ("quality", 8)]
    same(found, undisturbed[often])


def test_killed(undisturbed, tmp_path):
    """Nothing is lost but whole steps, and no row stands twice, also where there was no checkpoint yet."""
    found, met = stopped(tmp_path, "step", {"step", "validation", "quality"}, killed, range(2, 7))
    assert len(met) == 5 + 2 + 3
    same(found, undisturbed["step"])


@pytest.mark.parametrize("place", ["validation", "quality"])
def test_a_long_one_is_broken_off_at_once(place, tmp_path):
    def disturb(here, now):
        if here == place:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("it goes on")

    with pytest.raises(Preempted):
        train(tmp_path, often=OFTEN["step"], disturb=disturb)
