"""Logs whether the machine is used well: images per second, share of its matrix peak, waiting for data, memory."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from common.batch import Batch
from common.compute import matrix_peak
from lightning_modules.run_module import RunModule

GIB = 2**30


class Health(pl.Callback):
    """Every log_every_n_steps, over the steps since the last time, validation not counted:

    - throughput/images_per_second: of all processes; throughput/images_per_second_per_device;
    - throughput/peak_share: images per second and device times the FLOPs of training on one image (three times its
      forward pass: the backward pass does two products for each of the forward; two times beside weights that are not
      trained), over the FLOP/s of a large matrix product measured on this device in the precision of training;
    - throughput/data_wait_share: time in which the process waited for its next batch, over all time; the largest of all
      processes, which holds up the rest;
    - memory/device_peak_gib: peak of PyTorch's allocations on a GPU; memory/process_gib: resident memory of the
      process; the largest of all processes.

    Nothing here waits for the device. What is measured at the start costs one forward pass of two images and a
    fraction of a second of multiplying.

    Args:
        enabled: false logs none of it.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.flops_per_image: int | None = None
        self._peak: float | None = None
        # (time, images) at its start; none before the first step has ended, which warms up and compiles
        self._window: tuple[float, int] | None = None
        self._paused_at = self._paused = self._waited = self._wait_began = 0.0
        self._stepped = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        self._stepped, self._window = trainer.global_step, None
        if not self.enabled:
            return
        dtype = _computing_dtype(trainer)
        if trainer.strategy.root_device.type in ("cpu", "cuda"):
            self._peak = matrix_peak(trainer.strategy.root_device.type, dtype, torch.get_num_threads())
        # Lightning has no hook around the loader; its profiler is told when the loop asks for a batch and when it has
        # one.
        profiler = _profiler(trainer)
        self._start, self._stop = profiler.start, profiler.stop
        profiler.start, profiler.stop = self._ask, self._have

    def on_train_end(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        for name in ("start", "stop"):
            vars(_profiler(trainer)).pop(name, None)

    def on_exception(self, trainer: pl.Trainer, pl_module: RunModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _ask(self, action: str) -> None:
        self._start(action)
        if action.endswith("train_dataloader_next"):
            self._wait_began = time.perf_counter()

    def _have(self, action: str) -> None:
        if action.endswith("train_dataloader_next") and self._wait_began:
            self._waited += time.perf_counter() - self._wait_began
        self._stop(action)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: RunModule, batch: Batch, batch_idx: int) -> None:
        if self.enabled and self.flops_per_image is None:
            self.flops_per_image = pl_module.flops_per_image(batch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: RunModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not self.enabled or trainer.global_step == self._stepped:
            return
        self._stepped = trainer.global_step
        if self._window is None:
            self._open(pl_module)
        elif pl_module.is_logged_step:
            self._log(trainer, pl_module)
            self._open(pl_module)

    def _open(self, pl_module: RunModule) -> None:
        self._window, self._paused, self._waited = (time.perf_counter(), pl_module.images_seen), 0.0, 0.0

    def _log(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        assert self._window is not None, "opened after the first step"
        began, images = self._window
        seconds = time.perf_counter() - began - self._paused
        speed = (pl_module.images_seen - images) / seconds
        values = {
            "throughput/images_per_second": speed,
            "throughput/images_per_second_per_device": speed / trainer.world_size,
        }
        if self._peak is not None and self.flops_per_image:
            values["throughput/peak_share"] = speed / trainer.world_size * self.flops_per_image / self._peak
        largest = {"throughput/data_wait_share": self._waited / seconds, "memory/process_gib": process_memory() / GIB}
        if pl_module.device.type == "cuda":
            largest["memory/device_peak_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / GIB
        if trainer.world_size > 1:
            mine = torch.tensor(list(largest.values()), device=pl_module.device)
            largest = dict(zip(largest, trainer.strategy.all_gather(mine).amax(0).tolist(), strict=True))
        for name, value in {**values, **largest}.items():
            pl_module.log(name, torch.tensor(value))  # on the host: see TrainedModule

    def on_validation_start(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: RunModule) -> None:
        self._paused += time.perf_counter() - self._paused_at


def process_memory() -> int:
    """Resident memory of this process in bytes; its peak where the system does not tell the present."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _profiler(trainer: pl.Trainer) -> Any:
    """Lightning sets it on every trainer and does not declare it."""
    return getattr(trainer, "profiler")  # noqa: B009


def _computing_dtype(trainer: pl.Trainer) -> torch.dtype:
    return {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}.get(
        str(trainer.precision).split("-")[0], torch.float32
    )
