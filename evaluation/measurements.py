"""The measurements of an evaluation as files, for programs that are not ours: every y at full precision, masks, the law
and level of the noise, and hashes that say whose they are.

    python -m evaluation.measurements --config configs/evaluate/mnist.yaml --output measurements/mnist

`restoration.from_folder.FromFolder` takes what somebody's program made of them into the same rows, table and report.
A reader in plain NumPy is written beside them (read_measurements.py); examples/restore_with_deepinv.py
uses it.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from common.image_range import sigma_to_255
from degradations.frozen_measurements import MANIFEST, VERSION, Entry, sha256_of_array
from degradations.measurement import Measurement
from evaluation.command_line import split_overrides
from evaluation.config import read_config
from evaluation.engine import measured
from evaluation.plan import BuiltTask, Plan, make_plan
from evaluation.progress import say

#: Images of one file: bounded memory, few files.
BLOCK = 500

READER = '''"""Reads frozen measurements with NumPy alone.

for m in measurements("DIR"): m["task"], m["image"], m["y"], m["mask"], m["impulse"], m["sigma"]

y: float32 [C, H, W], in units of images in [-1, 1]. mask: float32 like y but for channels, 1 where a value was
measured, None without holes. impulse: what the operator makes of an image that is 1 at the middle pixel (H // 2,
W // 2) and 0 elsewhere, a blur's kernel in its place; None where it is a mask or not linear. The level of white noise
is sigma in the same units; the laws and operators stand in measurements.json by task. Write what you restore as 8-bit
PNG, DIR_OF_YOURS/TASK/IMAGE.png (of several samples IMAGE_0.png, IMAGE_1.png, ...), 0 for -1 and 255 for 1.
"""

import hashlib
import json
from pathlib import Path

import numpy as np


def measurements(folder, task=None):
    folder = Path(folder)
    manifest = json.loads((folder / "measurements.json").read_text())
    opened = {}
    for entry in manifest["entries"]:
        if task in (None, entry["task"]):
            arrays = {}
            for name, file in (("y", entry["block"]), ("mask", entry["mask"]), ("impulse", entry["impulse"])):
                if file is not None:
                    if opened.get(name, (None,))[0] != file:
                        opened[name] = (file, np.load(folder / file, mmap_mode="r"))
                    array = opened[name][1]
                    arrays[name] = np.array(array[entry["position"] if len(array) > 1 else 0])
                    if hashlib.sha256(arrays[name].tobytes()).hexdigest() != entry[name + "_sha256"]:
                        raise ValueError(f"{folder / file} was changed: position {entry['position']}")
            yield {**entry, **arrays, "sigma": manifest["tasks"][entry["task"]]["sigma"]}
'''


def write_measurements(plan: Plan, folder: Path, *, block: int = BLOCK) -> list[Entry]:
    """Write every y [C, H, W], float32, of every task, and measurements.json last, so that a folder with it is whole.

    Args:
        plan: of the evaluation.
        folder: to write to.
        block: images of one file.
    """
    entries: list[Entry] = []
    tasks: dict[str, dict[str, Any]] = {}
    (folder / MANIFEST).unlink(missing_ok=True)
    for task in plan.tasks.values():
        for number, rows in enumerate(_blocks(plan, task, block)):
            found, said = _write_block(plan, task, rows, folder, f"{number:04d}")
            entries += found
            tasks[task.name] = said
        say(f"{task.name}: {sum(entry.task == task.name for entry in entries)} measurements")
    manifest = {
        "version": VERSION,
        "seed": plan.config.seed,
        "data": plan.config.data,
        "split": plan.config.split,
        "tasks": tasks,
        "entries": [asdict(entry) for entry in entries],
    }
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    write_atomically(folder / "read_measurements.py", READER)
    return entries


def _blocks(plan: Plan, task: BuiltTask, size: int) -> Iterator[list[int]]:
    """The rows of a task, those of one shape together, at most `size` at once."""
    for rows in plan.shapes(task.rows).values():
        rest = iter(rows)
        while block := list(islice(rest, size)):
            yield block


def _write_block(
    plan: Plan, task: BuiltTask, rows: Sequence[int], folder: Path, number: str
) -> tuple[list[Entry], dict[str, Any]]:
    truth, measurement = measured(plan, task.name, list(rows))
    y = measurement.y.cpu().numpy()
    block = f"{task.name}/y_{number}.npy"
    _save(folder / block, y)
    mask, masks, mask_file = measurement.operator.mask, None, None
    if mask is not None:
        mask_file = f"{task.name}/mask_{number}.npy"
        masks = mask.expand(len(rows), *mask.shape[1:]).cpu().float().numpy()
        _save(folder / mask_file, masks)
    impulse, impulse_file = None, None
    if mask is None and measurement.operator.linear:
        impulse_file = f"{task.name}/impulse_{number}.npy"
        impulse = _impulse(measurement)
        _save(folder / impulse_file, impulse)
    entries = [
        Entry(
            task=task.name,
            image=plan.names[row],
            index=measurement.index[i],
            block=block,
            position=i,
            y_sha256=sha256_of_array(y[i]),
            image_sha256=sha256_of_array(truth[i].cpu().numpy()),
            mask=mask_file,
            impulse=impulse_file,
            mask_sha256=None if masks is None else sha256_of_array(masks[i]),
            impulse_sha256=None if impulse is None else sha256_of_array(impulse[i if len(impulse) > 1 else 0]),
        )
        for i, row in enumerate(rows)
    ]
    asked = plan.config.tasks[task.name]
    said = {
        "degradation": asked.degradation,
        "operator": measurement.operator.description,
        "noise": asked.noise,
        "sigma": measurement.sigma,
        "sigma_255": sigma_to_255(measurement.sigma),
        "white": measurement.noise.is_white,
    }
    return entries, said


def _impulse(measurement: Measurement) -> np.ndarray:
    """A e, see :class:`degradations.frozen_measurements.Entry`; one row where it is the same for all images."""
    operator = measurement.operator
    _, height, width = operator.input_shape
    e = torch.zeros(len(measurement.y), *operator.input_shape, device=measurement.y.device)
    e[..., height // 2, width // 2] = 1
    found = operator(e).cpu().numpy()
    return found[:1] if (found == found[:1]).all() else found


def _save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: np.save(file, np.ascontiguousarray(values)))


def main() -> None:
    parser = Parser(
        prog="python -m evaluation.measurements",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", action="append", required=True, metavar="FILE", help="as evaluate.py takes it")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="an empty or a new folder")
    args, rest = parser.parse_known_args()
    config = read_config(args.config, split_overrides(rest, ["--config", "--output"]))
    folder = require_writable_folder(args.output, "--output")
    if any(path.name != MANIFEST and not path.name.startswith(".") for path in folder.iterdir()):
        raise UserError(f"--output '{folder}' holds files already: give a new folder")
    entries = write_measurements(make_plan(config, measuring=False), folder)
    say(f"{len(entries)} measurements in '{folder}'; read_measurements.py there says how to read them")


if __name__ == "__main__":
    run_cli(main)
