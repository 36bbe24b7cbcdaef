import csv
import shutil

import pytest
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from callbacks.metrics_csv import MetricsCSV
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from common.errors import UserError


def rows(path) -> list[dict]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_rows_are_appended_and_new_columns_keep_the_old_rows(tmp_path):
    log = MetricsCSV(tmp_path)
    log.log_metrics({"train/loss": 0.5, "epoch": 0}, step=0)
    log.log_metrics({"train/loss": 0.25, "epoch": 0}, step=1)
    log.log_metrics({"val/loss": 0.4, "epoch": 0}, step=1)
    found = rows(log.path)
    assert [r["train/loss"] for r in found] == ["0.5", "0.25", ""] and [r["val/loss"] for r in found] == ["", "", "0.4"]


def test_a_continued_run_states_every_step_once(tmp_path):
    first = MetricsCSV(tmp_path)
    for step in range(6):
        first.log_metrics({"train/loss": float(step)}, step=step)
    with open(first.path, "a") as file:
        file.write("6,")  # a line that a kill has torn
    second = MetricsCSV(tmp_path)
    second.resume_at(4)
    second.log_metrics({"train/loss": 40.0}, step=4)
    assert [(r["step"], r["train/loss"]) for r in rows(first.path)] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
        ("3", "3"),
        ("4", "40"),
    ]


@pytest.mark.parametrize("every", [1, 50])
def test_a_run_folder_that_was_removed_ends_the_run(every, tmp_path):
    """At the next row, or at the next checkpoint, which would otherwise make a run folder that no command takes."""
    folder = tmp_path / "run"
    log, module = MetricsCSV(folder), tiny_module()
    folder.mkdir()
    log.log_metrics({"begun": 1.0}, step=0)
    inner = module.losses

    def losses(batch, generator):
        if module.global_step == 2:
            shutil.rmtree(folder)
        return inner(batch, generator)

    module.losses = losses
    options = {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True, "logger": log, "limit_val_batches": 0}
    trainer = tiny_trainer(folder, EMA(), RunCheckpoint(every_n_steps=3), log_every_n_steps=every, **options)
    with pytest.raises(UserError, match=r"metrics\.csv' was removed"):
        trainer.fit(module, datamodule=tiny_digits())
    assert not folder.exists()
