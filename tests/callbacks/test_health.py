"""What health logs, against a run whose times are dictated."""

import lightning.pytorch as pl
import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from callbacks.health import Health
from callbacks.metrics_csv import MetricsCSV
from callbacks.progress_line import ProgressLine
from common import compute
from datamodules.digits import Digits


class Recorder(MetricsCSV):
    """Rows as they are logged."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.rows = []

    def log_metrics(self, metrics, step=None):
        if "train/loss" in metrics:
            self.rows.append((step, dict(metrics)))


class Clock:
    """Time that passes only where the test says so."""

    def __init__(self) -> None:
        self.now = 1.0

    def perf_counter(self) -> float:
        return self.now


class SlowLoader:
    def __init__(self, loader, clock: Clock, seconds: float) -> None:
        self.loader, self.clock, self.seconds = loader, clock, seconds

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            self.clock.now += self.seconds
            yield batch


class SlowDigits(Digits):
    clock: Clock

    def train_dataloader(self):
        return SlowLoader(super().train_dataloader(), self.clock, 1.0)


class Busy(pl.Callback):
    """A step takes 3 s, a batch of validation 100 s."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_start(self, *_):
        self.clock.now += 3.0

    def on_validation_batch_start(self, *_):
        self.clock.now += 100.0


def rows(folder, *callbacks, data=None, module=None, **options):
    recorder = Recorder(folder)
    options = {"max_steps": 6, "limit_val_batches": 0, "log_every_n_steps": 2, **options}
    tiny_trainer(folder, EMA(), *callbacks, logger=recorder, **options).fit(
        module or tiny_module(), datamodule=data or tiny_digits(batch_size=8)
    )
    return recorder.rows


def test_names_and_steps(tmp_path):
    found = rows(tmp_path, Health())
    assert [step for step, _ in found] == [1, 3, 5]
    names = {"images_per_second", "images_per_second_per_device", "peak_share", "data_wait_share"}
    for _, row in found:
        assert {f"throughput/{n}" for n in names} | {
            "memory/process_gib",
            "train/grad_norm",
            "train/loss",
            "images",
        } <= set(row)
        assert row["throughput/images_per_second"] == row["throughput/images_per_second_per_device"] > 0
        assert (
            0 <= row["throughput/data_wait_share"] <= 1
            and 0 < row["throughput/peak_share"] < 1
            and 0.05 < row["memory/process_gib"] < 100
        )


def test_waiting_for_data_is_a_share_of_the_time_and_validation_is_left_out(tmp_path, monkeypatch):
    """8 images in 1 s of waiting and 3 s of work, whatever a validation takes."""
    clock = Clock()
    monkeypatch.setattr("callbacks.health.time", clock)
    data = SlowDigits(batch_size=8, limit=64, validation=20)
    data.clock = clock
    found = rows(tmp_path, Health(), Busy(clock), data=data, limit_val_batches=1, val_check_interval=2)
    for _, row in found:
        assert row["throughput/data_wait_share"] == pytest.approx(1 / 4)
        assert row["throughput/images_per_second"] == pytest.approx(8 / 4)


def test_the_flops_of_a_step_are_three_forward_passes(tmp_path):
    health, module = Health(), tiny_module()
    rows(tmp_path, health, module=module)
    image = torch.zeros(1, 1, 8, 8)
    assert health.flops_per_image == 3 * compute.count_flops(lambda: module.network(image, torch.zeros(1)))


def test_watching_changes_no_weight(tmp_path):
    def weights(*callbacks):
        model = tiny_module()
        rows(tmp_path, *callbacks, module=model, data=tiny_digits(batch_size=8))
        return model.network.state_dict()

    plain, watched = weights(), weights(Health())
    assert all(torch.equal(plain[k], watched[k]) for k in plain)


def test_switched_off(tmp_path):
    assert not any(
        k.startswith(("throughput/", "memory/")) for _, row in rows(tmp_path, Health(enabled=False)) for k in row
    )


def test_the_progress_line_shows_speed_and_waiting(tmp_path, capsys):
    rows(tmp_path, Health(), ProgressLine(every_seconds=0.0))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert (
        len(lines) == 6
        and "images/s" in lines[0]
        and "waiting for data" not in lines[0]
        and "% waiting for data)" in lines[-1]
    )


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_the_peak_is_that_of_the_precision(precision, dtype, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("callbacks.health.matrix_peak", lambda device, dtype, threads: asked.append(dtype) or 1e12)
    rows(tmp_path, Health(), precision=precision)
    assert asked == [dtype]
