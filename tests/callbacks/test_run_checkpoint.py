"""Checkpoints that are written beside training: the same file, while steps go on, and nothing lost by it."""

import errno
import threading
import time

import lightning.pytorch as pl
import pytest
import torch
from cluster.kill_at import KillAt
from helpers import call, one_sentence, tiny_config, tiny_digits, tiny_module, tiny_trainer, write_config

from callbacks import run_checkpoint
from callbacks.ema import EMA
from callbacks.preemption import Preempted, Preemption
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from common.errors import UserError

WRITE = run_checkpoint._write


def fit(folder, *callbacks, beside=0.0, **options):
    saving = RunCheckpoint(every_n_steps=2, keep_every_n_steps=2, beside_training_mb=beside)
    fixed = {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True, "limit_val_batches": 0}
    trainer = tiny_trainer(folder, EMA(), *callbacks, saving, **{**fixed, **options})
    trainer.fit(tiny_module(), datamodule=tiny_digits())
    return folder / "checkpoints"


def step_of(path) -> int:
    return torch.load(path, weights_only=True)["global_step"]


def test_the_same_files_as_in_turn(tmp_path):
    beside, in_turn = fit(tmp_path / "beside"), fit(tmp_path / "in turn", beside=None)
    names = sorted(p.name for p in in_turn.iterdir())
    assert names == ["last.ckpt", "previous.ckpt", "step_0000002.ckpt", "step_0000004.ckpt"]
    assert names == sorted(p.name for p in beside.iterdir())
    for name in names:
        assert (beside / name).read_bytes() == (in_turn / name).read_bytes(), name


def test_steps_go_on_while_a_slow_disk_is_written_to(tmp_path, monkeypatch):
    go, last = threading.Event(), tmp_path / "checkpoints" / "last.ckpt"

    def slow(checkpoint, path, keep):
        assert go.wait(600)
        WRITE(checkpoint, path, keep)

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            if trainer.global_step == 6:  # four steps after the writing began, and before the next is due
                assert not last.exists()
                go.set()

    monkeypatch.setattr(run_checkpoint, "_write", slow)
    saving = RunCheckpoint(every_n_steps=2, beside_training_mb=0)
    saving.every_n_steps = 100  # after the first
    trainer = tiny_trainer(
        tmp_path,
        Watch(),
        _At(2, lambda trainer: saving._save_last(trainer)),
        saving,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=True,
        limit_val_batches=0,
        max_steps=7,
    )
    trainer.fit(tiny_module(), datamodule=tiny_digits())
    assert go.is_set() and step_of(last) == 7
    assert step_of(last.with_name("previous.ckpt")) == 2


class _At(pl.Callback):
    """Does something once, after a step."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step == self.step:
            self.do(trainer)


def test_a_disk_that_is_full_ends_the_run_in_one_sentence(tmp_path, monkeypatch):
    def full(checkpoint, path, keep):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(run_checkpoint, "_write", full)
    config, run = write_config(tmp_path, tiny_config(max_steps=400)), tmp_path / "run"
    result = call(
        "train.py", "fit", "--config", config, "--run", run, "--checkpoint.beside_training_mb", 0, "--samples.count", 0
    )
    one_sentence(result, "last.ckpt", "the disk is full")
    assert not (run / "finished.json").exists()
    assert len((run / "metrics.csv").read_text().splitlines()) < 20, "long before the last step"


def test_a_signal_waits_for_what_it_saves(tmp_path, monkeypatch):
    def slow(checkpoint, path, keep):
        time.sleep(0.3)
        WRITE(checkpoint, path, keep)

    monkeypatch.setattr(run_checkpoint, "_write", slow)
    with pytest.raises(Preempted) as leaving:
        fit(tmp_path, Preemption(), KillAt(step=3, rank=0))
    assert leaving.value.code == 75
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert step_of(last) == 3 and step_of(last.with_name("previous.ckpt")) == 2


def test_a_size_below_zero_is_refused():
    with pytest.raises(UserError, match="beside_training_mb must be at least 0"):
        RunCheckpoint(beside_training_mb=-1)
