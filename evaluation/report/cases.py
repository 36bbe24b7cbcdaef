"""Single images of a task, chosen by rule: the worst, the median and the best by the metric that comes first."""

import base64
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.image_files import read_png, restored_path
from evaluation.plan import Plan
from evaluation.report.sheets import LARGEST, pixels_of
from evaluation.report.standings import standings
from evaluation.report.tables import Results
from metrics.base import Column

#: Error maps show |restored - truth| this many times.
GAIN = 4
#: Bytes of all pictures together: the report of many tasks and methods stays a page that opens at once.
BUDGET = 2_000_000


@dataclass(frozen=True)
class Restored:
    """What one method made of a case: its picture and error map as addresses, and its number."""

    method: str
    picture: str
    error: str
    value: float


@dataclass(frozen=True)
class Case:
    """One image of one task: rule: why it was chosen."""

    task: str
    image: str
    rule: str
    truth: str
    measurement: str
    restored: list[Restored] = field(default_factory=list)


def choose(plan: Plan, results: Results, column: Column, task: str) -> list[tuple[str, str]]:
    """(rule, image) for the worst, the median and the best image by the best method; fewer where there are fewer."""
    order = standings(results, task, column, seed=plan.config.seed)
    names = [s.method for s in order] or [m for t, m in results.per_image if t == task]
    if not names:
        return []
    values = {
        image: v for image, v in results.per_image[task, names[0]].get(column.name, {}).items() if math.isfinite(v)
    }
    ranked = sorted(values, key=lambda image: (column.best * values[image], image))
    if not ranked:
        return []
    chosen = {ranked[0]: "worst", ranked[-1]: "best", ranked[len(ranked) // 2]: "median"}
    if len(ranked) == 1:
        chosen = {ranked[0]: "only"}
    by = results.shown(names[0])
    return [
        (f"the {chosen[image]} image by {column.label} of {by}", image)
        for image in dict.fromkeys(ranked)
        if image in chosen
    ]


def cases(plan: Plan, results: Results, folder: Path, column: Column | None) -> list[Case]:
    """The cases of every task with what each method made of them, sample 0, best method first, while the budget of
    bytes lasts.
    """
    if column is None or column.name not in plan.metrics.row_columns:
        return []
    row_of = {name: number for number, name in enumerate(plan.names)}
    chosen = [(task, rule, image) for task in plan.tasks for rule, image in choose(plan, results, column, task)]
    left = BUDGET
    found = []
    for task, rule, image in chosen:
        truth, measurement = pixels_of(plan, task, row_of[image])
        case = Case(task, image, rule, _address(truth), _address(measurement))
        left -= len(case.truth) + len(case.measurement)
        found.append(case)
    for case in found:
        truth, _ = pixels_of(plan, case.task, row_of[case.image])
        order = [s.method for s in standings(results, case.task, column, seed=plan.config.seed)]
        rest = [m for t, m in results.per_image if t == case.task and m not in order]
        for method in [*order, *rest]:
            path = restored_path(folder, case.task, method, case.image, 0)
            if not path.is_file():
                continue
            pixels = read_png(path).permute(1, 2, 0).expand(-1, -1, 3).numpy()
            error = np.abs(pixels.astype(int) - truth).mean(2) * GAIN
            restored = Restored(
                method=results.shown(method),
                picture=_address(pixels),
                error=_address(255 - error.clip(0, 255).astype(np.uint8)),
                value=results.per_image[case.task, method][column.name].get(case.image, math.nan) * column.factor,
            )
            left -= len(restored.picture) + len(restored.error)
            if left < 0 and case.restored:
                break
            case.restored.append(restored)
    return [case for case in found if case.restored]


def _address(pixels: np.ndarray) -> str:
    """A picture as the address of itself, at most LARGEST pixels wide and high."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if max(picture.size) > LARGEST:
        scale = LARGEST / max(picture.size)
        picture = picture.resize(
            (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BOX
        )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
