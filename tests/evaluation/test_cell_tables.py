"""--dry_run: what cannot work and why stands first, by method; nothing is timed where something is refused."""

import dataclasses
import io

import pytest
from rich.console import Console
from rich.table import Table

from common.errors import UserError
from evaluation.cell_tables import all_calls, cost_table, refusal_table
from evaluation.cells import make_cells
from evaluation.config import Config, parse_config
from evaluation.plan import make_plan
from evaluation.run import Options, dry_run

TOYS = "tests.evaluation.toys."
POOL = {"degradation": {"class_path": "degradations.average_pool.AveragePool", "init_args": {"factor": 2}}}


def config(**more) -> Config:
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 4,
        "tasks": {
            "denoising": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}},
            "pool": POOL,
        },
        "methods": {
            "no": TOYS + "Refusing",
            "degraded": "restoration.degraded.Degraded",
            "dither": {"class_path": TOYS + "Dither", "num_samples": 2, "limit": 3},
        },
    }
    return parse_config(raw | more, "here")


def shown(table: Table) -> list[list[str]]:
    """The cells of the lines of a table."""
    out = Console(file=io.StringIO(), width=1000)
    out.print(table)
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


def test_reasons_by_method_with_their_tasks():
    cells = make_cells(make_plan(config()))
    table = refusal_table(cells)
    assert table is not None and table.title == "3 of 6 cells cannot work"
    (no, tasks, why), (degraded, pool, shape) = shown(table)
    assert (no, tasks) == ("no", "denoising, pool") and "four legs" in why
    assert (degraded, pool) == ("degraded", "pool") and "1x4x4 for an image of 1x8x8" in shape
    costs = {(line[0], line[1]): line[2:] for line in shown(cost_table(cells, devices=1))}
    assert costs["pool", "no"][-1] == "refused" and costs["denoising", "degraded"][-1] == "–"
    assert costs["denoising", "dither"][:4] == ["3", "0", "2", "2"]  # images of its own, done, samples, calls
    # 3 images, 2 samples, 2 calls on the one task that it can do, or on both
    calls = [int(line[5]) for line in costs.values() if line[-1] != "refused"]
    assert sum(calls) == 12 * sum(1 for c in cells if c.method == "dither" and c.refusal is None) > 0
    assert all_calls(cells) == f"6 cells: {sum(calls)} network calls of one image are left"
    assert refusal_table([cell for cell in cells if cell.refusal is None]) is None


def test_nothing_is_timed_before_it_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tests.evaluation.toys.Dither.restore", None)
    with pytest.raises(UserError, match="3 of 6 cells cannot work"):
        dry_run(config(), Options(output=tmp_path))
    assert "why not" in capsys.readouterr().out
    monkeypatch.undo()
    dry_run(dataclasses.replace(config(), skip_unsupported=True), Options(output=tmp_path))
    out, said = capsys.readouterr()
    assert "network calls of one image are left; a few steps of each cell are timed now" in said
    assert out.index("why not") < out.index("estimated time") and "refused" in out


def test_options_of_a_task_are_those_of_its_cell_alone():
    methods = {"dither": {"class_path": TOYS + "Dither", "per_task": {"pool": {"scale": 0.5}}}}
    asked = config(methods=methods)
    plan = make_plan(asked)
    built = plan.methods["dither"]
    assert (built.on("denoising").scale, built.on("pool").scale) == (0.2, 0.5)  # type: ignore[attr-defined]
    plain = make_plan(config(methods={"dither": TOYS + "Dither"}))
    half = make_plan(config(methods={"dither": {"class_path": TOYS + "Dither", "init_args": {"scale": 0.5}}}))
    assert plan.fingerprints["denoising", "dither"] == plain.fingerprints["denoising", "dither"]
    assert plan.fingerprints["pool", "dither"] == half.fingerprints["pool", "dither"]
    assert parse_config(asked.plain(), "itself") == asked and "per_task" not in config().plain()["methods"]["dither"]
    with pytest.raises(UserError, match=r"methods.dither.per_task.pool.*has no option|scal"):
        make_plan(config(methods={"dither": {"class_path": TOYS + "Dither", "per_task": {"pool": {"scal": 1}}}}))


def test_a_task_that_is_left_out_leaves_what_methods_say_of_it():
    methods = {
        "back": TOYS + "Back",
        "dither": {"class_path": TOYS + "Dither", "tasks": ["pool"], "per_task": {"pool": {"scale": 0.5}}},
    }
    tasks = {**config().plain()["tasks"], "pool": None}
    plan = make_plan(config(methods=methods, tasks=tasks))
    assert plan.cells == (("denoising", "back"),) and plan.config.methods["dither"].per_task == {}


def test_options_of_a_task_must_not_change_the_number_of_samples():
    options = {"class_path": "restoration.warm_start.WarmStart", "init_args": {"steps": 2}}
    where = {"denoising": {"steps": 1}}
    asked = config(
        methods={"chain": {**options, "per_task": where}}, priors={"default": "tests/stored/prior.safetensors"}
    )
    with pytest.raises(UserError, match=r"methods.chain.per_task.denoising makes the method deterministic"):
        make_plan(asked)
