"""What each cell costs: the first steps of the method itself on its first images are timed, and given up."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from evaluation.cells import Cell, images_per_batch
from evaluation.engine import measured
from evaluation.plan import Plan

BUDGET = 2.0  # seconds after which a method that has shown two steps is given up


class _Enough(Exception):
    """The steps that were timed are enough."""


def estimate(plan: Plan, cells: Sequence[Cell], *, budget: float = BUDGET) -> list[Cell]:
    """The cells with estimated seconds: of one batch, timed, times the pixels that are left over those of the batch.

    A method that stops by itself may take less: all of its steps are reckoned. Nothing is kept of what is restored.

    Args:
        plan: the evaluation.
        cells: of it; those that are refused keep None, those that are done take no time.
        budget: seconds for each cell; two steps are waited for, however long they take.
    """
    estimated = []
    for cell in cells:
        if cell.refusal is None and cell.images:
            cell = replace(cell, seconds=_seconds(plan, cell, budget))
        elif cell.refusal is None:
            cell = replace(cell, seconds=0.0)
        estimated.append(cell)
    return estimated


def _seconds(plan: Plan, cell: Cell, budget: float) -> float:
    groups = plan.shapes(plan.rows(cell.task, cell.method))
    shape, rows = max(groups.items(), key=lambda item: len(item[1]))
    batch = rows[: min(images_per_batch(plan, cell.num_samples), cell.images)]
    pixels = sum(len(rows) * _pixels(shape) for shape, rows in groups.items())
    left = pixels * cell.images / cell.total  # which of them are done is not asked: the time is an estimate
    return _time(plan, cell, batch, budget) * left / (len(batch) * _pixels(shape))


def _pixels(shape: Sequence[int]) -> int:
    return shape[1] * shape[2]


def _time(plan: Plan, cell: Cell, rows: list[int], budget: float) -> float:
    """Seconds of a whole restoration of these images: what came before the second report of the method, and the pace of
    the rest.
    """
    method = plan.methods[cell.method].on(cell.task)
    _, measurement = measured(plan, cell.task, rows)
    given = measurement if method.uses_truth else measurement.without_truth()
    reports: list[tuple[float, float]] = []  # (share that is done, seconds)

    def now() -> float:
        if plan.device.type == "cuda":
            torch.cuda.synchronize(plan.device)
        return time.perf_counter() - start

    def on_step(step: int, steps: int, estimate: Tensor) -> None:
        del estimate
        share = min(1.0, (step + 1) / max(1, steps))
        if share < 1 and (not reports or share > reports[-1][0]):
            reports.append((share, now()))
            if len(reports) > 1 and reports[-1][1] > budget:
                raise _Enough

    start = time.perf_counter()
    try:
        method.restore(given, num_samples=cell.num_samples, random=plan.random, on_step=on_step)
        return now()
    except _Enough:
        (first, began), (share, until) = reports[0], reports[-1]
        return until + (1 - share) * (until - began) / (share - first)
