"""The loop: measure, restore, round to 8 bits, compute metrics, save the images, then their rows."""

import math
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.image_range import sigma_to_255, to_float, to_uint8
from common.memory import in_batches
from degradations.measurement import Measurement, measure
from evaluation.cells import Cell, images_per_batch
from evaluation.image_files import restored_path, write_png
from evaluation.not_finite import note_not_finite
from evaluation.peak_memory import MemoryFile, PeakMemory
from evaluation.plan import Plan
from evaluation.rows import Row, RowFile, RowKey
from restoration.base import Restoration

#: (cell, samples finished since the last call, may be a fraction while an iterative method works)
OnProgress = Callable[[Cell, float], None]


@dataclass(frozen=True)
class Share:
    """Which images this process restores: rows rank, rank + world, ...; by_batch: those of the batches rank,
    rank + world, ..., which are the batches of one process, so that nothing depends on the number of shares, to the
    last bit. All samples of an image stay together.
    """

    rank: int = 0
    world: int = 1
    by_batch: bool = False

    def parts(self, plan: Plan, cell: Cell) -> list[list[int]]:
        """The rows of a cell that are this share's, those of one image shape together."""
        rows = plan.rows(cell.task, cell.method)
        if not self.by_batch:
            return list(plan.shapes(rows[self.rank :: self.world]).values())
        size = images_per_batch(plan, cell.num_samples)
        batches = [shape[i : i + size] for shape in plan.shapes(rows).values() for i in range(0, len(shape), size)]
        return batches[self.rank :: self.world]


class Engine:
    """Restores what is not done yet and appends rows to `rows` once the images they speak of are on the disk."""

    def __init__(
        self, plan: Plan, folder: Path, rows: RowFile, *, share: Share = Share(), on_progress: OnProgress | None = None
    ) -> None:
        self.plan, self.folder, self.rows, self.share = plan, folder, rows, share
        self._report = on_progress or (lambda cell, samples: None)
        self._memory, self._peak = MemoryFile(folder), PeakMemory(plan.device)
        self._images = ThreadPoolExecutor(max_workers=4, thread_name_prefix="png")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rows")
        self._written: Future | None = None

    def run(self, cells: list[Cell], done: Collection[RowKey] = ()) -> None:
        """Restore the images of these cells that `done` lacks; those that are not finite are noted and have no row."""
        done = frozenset(done)
        try:
            for cell in cells:
                self._run_cell(cell, done)
            self._settle()
        finally:  # also when interrupted: what is restored is written
            self._writer.shutdown()
            self._images.shutdown()

    def _run_cell(self, cell: Cell, done: frozenset[RowKey]) -> None:
        plan = self.plan
        size = images_per_batch(plan, cell.num_samples)
        for rows in self.share.parts(plan, cell):
            left = [
                r
                for r in rows
                if any((cell.task, cell.method, plan.names[r], k) not in done for k in range(cell.num_samples))
            ]
            size = in_batches(
                left,
                size,
                lambda batch: self._run_batch(cell, batch, done),
                none_fits=(
                    f"{cell.task} x {cell.method}: the device has too little memory for one image; use fewer samples"
                ),
            )

    def _run_batch(self, cell: Cell, rows: list[int], done: frozenset[RowKey]) -> None:
        plan = self.plan
        truth, measurement = measured(plan, cell.task, rows)
        restoration, seconds = self._restore(cell, measurement, len(rows))
        samples = restoration.samples
        finite = torch.isfinite(samples).flatten(1).all(1)
        bad = [plan.names[row] for row, good in zip(rows, finite.tolist(), strict=True) if not good]
        mark = plan.fingerprints[cell.task, cell.method]
        note_not_finite(self.folder, [(cell.task, cell.method, name, mark) for name in bad])
        pixels = to_uint8(samples if not bad else samples.nan_to_num())  # those of `bad` are not kept
        values = evaluate_metrics(plan, pixels, truth, measurement)
        self._settle()  # raises what went wrong while the batch before this one was written
        files, new = [], []
        pixels = pixels.cpu()
        for b, row in enumerate(rows):
            if plan.names[row] in bad:
                continue
            for k in range(cell.num_samples):
                key = (cell.task, cell.method, plan.names[row], k)
                if key in done:
                    continue
                files.append((restored_path(self.folder, *key), pixels[b, k]))
                sigma = measurement.sigma
                new.append(
                    Row(
                        *key,
                        seed=plan.config.seed,
                        sigma=sigma,
                        sigma_255=sigma_to_255(sigma),
                        seconds=seconds / (len(rows) * cell.num_samples),
                        nfe=restoration.cost.nfe,
                        values={name: float(v[b, k]) for name, v in values.items()},
                        fingerprint=plan.fingerprints[cell.task, cell.method],
                    )
                )
        self._written = self._writer.submit(self._write, files, new)

    def _restore(self, cell: Cell, measurement: Measurement, images: int) -> tuple[Restoration, float]:
        """The restoration and the seconds that it took."""
        plan = self.plan
        method = plan.methods[cell.method].on(cell.task)
        chains = images * cell.num_samples
        reported = 0.0

        def on_step(step: int, steps: int, estimate: Tensor) -> None:
            nonlocal reported
            del estimate  # reading it would make the device wait
            now = chains * min(1.0, (step + 1) / max(1, steps))
            if now - reported >= chains / 50:
                self._report(cell, now - reported)
                reported = now

        given = measurement if method.uses_truth else measurement.without_truth()
        _synchronize(plan.device)
        self._peak.begin()
        start = time.perf_counter()
        restoration = method.restore(given, num_samples=cell.num_samples, random=plan.random, on_step=on_step)
        _synchronize(plan.device)
        seconds = time.perf_counter() - start
        self._memory.note((cell.task, cell.method), chains, self._peak.megabytes(), self._peak.what)
        self._report(cell, chains - reported)
        expected = (images, cell.num_samples, *measurement.operator.input_shape)
        if tuple(restoration.samples.shape) != expected:
            raise ValueError(
                f"{cell.method} gave samples of shape {list(restoration.samples.shape)}, expected {list(expected)}"
            )
        return restoration, seconds

    def _write(self, files: list[tuple[Path, Tensor]], rows: list[Row]) -> None:
        """The images, then their rows: a row is a promise that its image is on the disk. Runs beside the network, in
        the order of batches.
        """
        for future in [self._images.submit(write_png, path, pixels) for path, pixels in files]:
            future.result()
        self.rows.append(rows)

    def _settle(self) -> None:
        if self._written is not None:
            self._written.result()


def measured(plan: Plan, task: str, rows: list[int]) -> tuple[Tensor, Measurement]:
    """The images of these rows, uint8 [B, C, H, W], and their measurement: a function of (seed, image index), thus the
    same for any batch.
    """
    batch = plan.images.get(rows)
    truth = batch.image.to(plan.device)
    built = plan.tasks[task]
    with torch.no_grad():
        return truth, measure(
            to_float(truth),
            degradation=built.degradation,
            noise=built.noise,
            index=batch.index.tolist(),
            random=plan.random,
        )


@torch.no_grad()
def evaluate_metrics(plan: Plan, pixels: Tensor, truth: Tensor, measurement: Measurement) -> dict[str, Tensor]:
    """Every number of every sample, [B, N] on the CPU, by column of rows.csv; NaN for what is missing; pixels uint8
    [B, N, C, H, W].
    """
    B, N = pixels.shape[:2]
    found = {column: torch.full((B, N), math.nan, dtype=torch.float64) for column in plan.metrics.row_columns}
    for name, metric in plan.metrics.image.items():
        if (name, tuple(pixels.shape[2:])) in plan.metrics.not_at:
            continue
        for k in range(N):
            values = metric(pixels[:, k], truth, measurement).double().cpu()
            for part, value in zip(metric.part_names(name), values.reshape(B, -1).unbind(1), strict=True):
                found[part][:, k] = value
    return found


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
