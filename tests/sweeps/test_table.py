"""The table: last values, mean and spread over seeds, and no number for what is not finished."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from sweeps.expand import Sweep, read_sweep
from sweeps.results import read_results
from sweeps.state import Places
from sweeps.table import markdown, read_rows, runs_csv, write_table


@pytest.fixture
def world(tmp_path) -> tuple[Sweep, Places]:
    content = {
        "program": "train.py",
        "method": "grid",
        "metric": {"name": "quality/fid", "goal": "minimize"},
        "parameters": {"model.schedule": {"values": ["a.Linear", "a.Cosine"]}, "seed": {"values": [0, 1]}},
        "command": ["${env}", "python", "train.py", "fit", "${args}"],
    }
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    sweep = read_sweep(path)
    return sweep, Places(sweep, tmp_path / "out")


def finish(places: Places, sweep: Sweep, number: int, fid: float | None, status: str = "finished") -> None:
    combination = sweep.combinations[number]
    folder: Path = places.run(combination)
    folder.mkdir(parents=True)
    # an early value, then the last one, then a step without one
    fids = ["", "99.0", "" if fid is None else str(fid), ""]
    rows = [f"{step},0,{0.5 / (step + 1)},{value if fid is not None else ''}" for step, value in enumerate(fids)]
    (folder / "metrics.csv").write_text("\n".join(["step,epoch,train/loss,quality/fid", *rows]) + "\n")
    (folder / "finished.json").write_text(json.dumps({"step": 4, "images": 256, "max_epochs": 0}))
    places.write(combination, status, 10.0)


def lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_mean_and_spread_over_seeds(world):
    sweep, places = world
    for number, fid in enumerate((10.0, 14.0, 5.0, 5.5)):
        finish(places, sweep, number, fid)
    rows = read_rows(sweep, places, ["quality/fid", "train/loss"])
    text = markdown(sweep, rows, ["quality/fid", "train/loss"])
    assert "4 of 4 runs finished" in text
    head, _, linear, cosine = lines(text)
    assert head == ["schedule", "quality/fid", "train/loss", "runs", "images", "seconds", "missing"]
    # sqrt(2) times half their distance
    assert linear[:2] == ["Linear", "12.0 ± 2.8"] and linear[3:] == ["2 of 2", "256", "10", ""]
    assert cosine[:2] == ["Cosine", "**5.25 ± 0.35**"]
    table = list(csv.DictReader(io.StringIO(runs_csv(sweep, rows, ["quality/fid"]))))
    assert [float(r["quality/fid"]) for r in table] == [10.0, 14.0, 5.0, 5.5]
    assert [(r["schedule"], r["seed"], r["images"], r["seconds"]) for r in table][1] == ("Linear", "1", "256", "10")


def test_what_is_not_finished_has_no_number(world):
    sweep, places = world
    finish(places, sweep, 0, 10.0)
    finish(places, sweep, 1, 1.0, status="interrupted")
    finish(places, sweep, 2, None)
    rows = read_rows(sweep, places, ["quality/fid"])
    assert [(r.status, r.values) for r in rows] == [
        ("finished", {"quality/fid": 10.0}),
        ("interrupted", {}),
        ("finished", {}),
        ("missing", {}),
    ]
    _, _, linear, cosine = lines(markdown(sweep, rows, ["quality/fid"]))
    assert linear[1:3] == ["10", "1 of 2"] and linear[-1] == "Linear-seed_1: interrupted"  # not bold: a seed is missing
    assert cosine[1:3] == ["", "1 of 2"] and cosine[-1] == "Cosine-seed_1: missing; Cosine-seed_0: no quality/fid"


def test_a_number_that_is_none_is_shown_and_never_the_best(world):
    sweep, places = world
    for number, fid in enumerate((10.0, 14.0, float("nan"), 5.5)):
        finish(places, sweep, number, fid)
    _, _, linear, cosine = lines(markdown(sweep, read_rows(sweep, places, ["quality/fid"]), ["quality/fid"]))
    assert linear[1] == "**12.0 ± 2.8**" and cosine[1] == "nan"


def test_time_adds_up_over_attempts(world):
    sweep, places = world
    combination = sweep.combinations[0]
    places.write(combination, "interrupted", 10.0)
    places.write(combination, "finished", 5.0)
    places.run(combination).mkdir(parents=True)  # of a finished run whose folder is gone nothing is left
    assert places.state(combination).seconds == 15.0


def test_evaluations_have_results_too(tmp_path):
    head = "sampler,steps,nfe,images,metric,value,ci_low,ci_high,images_per_second,features,fingerprint\n"
    real, ddim = (
        "real images,,0,200,fid,0.5,,,,f,\n",
        "one,10,10,2000,fid,7.5,7,8,31.5,f,x\none,10,10,2000,kid,,,,31.5,f,x\n",
    )
    (tmp_path / "table.csv").write_text(head + real + ddim)
    found = read_results(tmp_path)
    assert found.values == {"quality/fid": 7.5, "nfe": 10, "images_per_second": 31.5} and found.images == 2000
    (tmp_path / "table.csv").write_text(head + real + ddim + "one,20,20,2000,fid,6.5,6,7,15,f,x\n")
    assert {k: v for k, v in read_results(tmp_path).values.items() if "fid" in k} == {
        "one 10/quality/fid": 7.5,
        "one 20/quality/fid": 6.5,
    }
    (tmp_path / "table.csv").write_text("task,method,metric,mean,ci_low,ci_high,n\nbox,dps,psnr,21.5,21,22,100\n")
    # one method on one task: the same column in every run of a sweep
    assert read_results(tmp_path).values == {"psnr": 21.5}
    with open(tmp_path / "table.csv", "a") as file:
        file.write("box,sdedit,psnr,20.5,20,21,100\n")
    assert read_results(tmp_path).values == {"box/dps/psnr": 21.5, "box/sdedit/psnr": 20.5}
    assert read_results(tmp_path / "nothing").values == {}


def test_a_metric_that_no_run_has_is_refused_with_those_there_are(world):
    sweep, places = world
    finish(places, sweep, 0, 3.0)
    with pytest.raises(
        UserError, match=r"'quality/fdi' \(did you mean 'quality/fid'\?\): there is quality/fid, train/l"
    ):
        write_table(sweep, places, ["quality/fid", "quality/fdi"])
    assert not (places.output / "table.md").exists()
    assert "quality/fid" in write_table(sweep, places, ["quality/fid"])[0]


def test_a_sweep_without_a_metric_asks_for_one(world):
    sweep, places = world
    finish(places, sweep, 0, 3.0)
    without = replace(sweep, metric=None)
    with pytest.raises(UserError, match="give --metric"):
        write_table(without, places, [])
    assert "better" not in write_table(without, places, ["train/loss"])[0]
