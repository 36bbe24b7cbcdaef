"""What came out of one run: its metrics by name, and how many images it took."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Results:
    """values: metric to number. images: trained on, or drawn or restored for a value; None where it is not known."""

    values: dict[str, float] = field(default_factory=dict)
    images: int | None = None


def read_results(folder: Path) -> Results:
    """Of a training run: the last value of every metric in metrics.csv. Of an evaluation: table.csv, named as W&B has
    them; empty where neither is there.
    """
    if (folder / "metrics.csv").is_file():
        return _of_training(folder)
    if (folder / "table.csv").is_file():
        with open(folder / "table.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        return _of_generation(rows) if rows and "sampler" in rows[0] else _of_restoration(rows)
    return Results()


def _of_training(folder: Path) -> Results:
    last: dict[str, float] = {}
    with open(folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            last.update(
                {name: float(value) for name, value in row.items() if name and value and name not in ("step", "epoch")}
            )
    finished = folder / "finished.json"
    return Results(last, json.loads(finished.read_text())["images"] if finished.is_file() else None)


def _of_generation(rows: list[dict[str, str]]) -> Results:
    """quality/<measure>, nfe and images_per_second where it drew with one sampler and one number of steps; else every
    name begins with both.
    """
    drawn = [r for r in rows if r["steps"]]
    alone = len({(r["sampler"], r["steps"]) for r in drawn}) == 1
    values: dict[str, float] = {}
    for row in drawn:
        prefix = "" if alone else f"{row['sampler']} {row['steps']}/"
        found = {
            f"quality/{row['metric']}": row["value"],
            "nfe": row["nfe"],
            "images_per_second": row["images_per_second"],
        }
        values.update({prefix + name: float(value) for name, value in found.items() if value})
    return Results(values, int(drawn[0]["images"]) if drawn else None)


def _of_restoration(rows: list[dict[str, str]]) -> Results:
    """The metric's name where one method restored one task; else <task>/<method>/<metric>."""
    alone = len({(r["task"], r["method"]) for r in rows}) == 1
    values = {
        r["metric"] if alone else f"{r['task']}/{r['method']}/{r['metric']}": float(r["mean"])
        for r in rows
        if r.get("mean")
    }
    return Results(values, max((int(r["n"]) for r in rows if r.get("n")), default=None))
