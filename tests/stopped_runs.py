"""Runs that a test stops somewhere, again and again, until they come to their end: on one process, or on each of
several.
"""

import common.late_torchmetrics  # noqa: F401, I001  (before Lightning: spawned processes have no conftest.py)

import csv
import os
import signal
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from helpers import tiny_digits, tiny_trainer

from callbacks.ema import EMA
from callbacks.generation_quality import GenerationQuality
from callbacks.metrics_csv import MetricsCSV
from callbacks.preemption import Preempted, Preemption
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from callbacks.sample_grid import SampleGrid
from datamodules.loader import EvaluationLoader
from diffusion.samplers.ddim import DDIM
from diffusion.schedules import Cosine
from lightning_modules.ddpm import DDPM
from networks.unet import UNet

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

    def _measure(self, trainer, pl_module, inside):
        for k in range(2 - trainer.global_rank):  # the second process has fewer batches
            inside.at_a_batch()
            if k == 0:
                self.disturb("quality", trainer.global_step)
        inside.through()
        for logger in trainer.loggers:
            logger.log_metrics({"quality/fid": 1.0}, step=trainer.global_step)


def train(folder: Path, *, often: dict, disturb=lambda place, step: None, validated: list | None = None) -> dict:
    """Train to the end, from the checkpoint in the folder where there is one; what came of it.

    often: options of the trainer, and batches_of: the images of a batch of validation. validated: gets an entry for
    each of those batches.
    """
    often = dict(often)
    images = often.pop("batches_of", None)
    validated = [] if validated is None else validated
    torch.manual_seed(0)
    dropout = 0.1 if often.get("devices", 1) == 1 else 0.0  # each process draws its own, whatever it trained before
    network = UNet(in_channels=1, channels=4, multipliers=[1], blocks=1, attention=[], groups=2, dropout=dropout)
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

    def counted(*args):
        validated.append(args)
        return validate(*args)

    model.validation_step = watched("validation", counted, 0)
    own = (
        EMA(),
        SampleGrid(count=2, every=2),
        Quality(disturb),
        Preemption(every_n_steps=1),
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
    data = tiny_digits()
    if images is not None:
        loader = data.val_dataloader
        data.val_dataloader = lambda: _of(loader(), images)
    trainer.fit(model, datamodule=data, ckpt_path=path if path.exists() else None)
    with open(log.path) as file:
        rows = [(r["step"], r["epoch"], *sorted(r.items())) for r in csv.DictReader(file)]
    grids = {p.name: p.read_bytes() for p in sorted((folder / "samples").iterdir())}
    kept = sorted(p.name for p in path.parent.glob("step_*"))
    kinds = {"raw": model.state_dict(), "average": model.average.weights()}
    return {"kept": kept, "rows": rows, "grids": grids, "validated": len(validated), **kinds}


def _of(loader: EvaluationLoader, images: int) -> EvaluationLoader:
    """The same images of this process, so many at once."""
    loader._rows = [part for rows in loader._rows for part in rows.split(images)]
    return loader


def stopped(
    folder: Path, often: dict, places: Iterable[str], stop: Callable[[], None], steps: range
) -> tuple[dict, list]:
    """Train with a stop at each of the places, once at every step at which it is come to; what came of it, and where it
    was stopped.
    """
    met: list[tuple[str, int]] = []
    validated: list = []

    def disturb(place, step):
        if place in places and step in steps and (place, step) not in met:
            met.append((place, step))
            stop()

    while True:
        try:
            return train(folder, often=often, disturb=disturb, validated=validated), met
        except (Preempted, Killed) as leaving:
            assert isinstance(leaving, Killed) or leaving.code == 75
            assert len(met) < 100, "it comes nowhere"


def on_two(folder: Path, often: dict, places: Iterable[str], steps: range) -> None:
    """Two processes train in `folder`/run, and one of them, by turns, is sent SIGTERM at each of the places; and in
    `folder`/whole undisturbed. What came of it, as :func:`stopped` gives it, is in `folder`/0.pt and 1.pt, by process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_of_two, args=(str(port), folder, often, tuple(places), steps), nprocs=2)


def _one_of_two(rank: int, port: str, folder: Path, often: dict, places: tuple[str, ...], steps: range) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    often = {**often, "devices": 2, "strategy": "ddp"}
    turns: list[int] = []

    def stop() -> None:
        turns.append(rank)
        if len(turns) % 2 == rank:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = train(folder / "whole", often=often)
    found, met = stopped(folder / "run", often, places, stop, steps)
    torch.save((whole, found, met), folder / f"{rank}.pt")
