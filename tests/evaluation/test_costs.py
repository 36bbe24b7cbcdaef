"""costs.csv: calls, backward passes, seconds and memory of each cell; memory is measured, the most over all batches."""

import csv
import gc
from pathlib import Path

import torch
from helpers import tiny_denoiser

from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from evaluation.config import Config, parse_config
from evaluation.costs import HEADER
from evaluation.peak_memory import PROCESS, TENSORS, MemoryFile, PeakMemory, read_memory
from evaluation.run import Options, evaluate


def config(folder: Path, **more) -> Config:
    denoiser = tiny_denoiser((1, 8, 8))
    write_safetensors(folder / "prior.safetensors", denoiser.network, describe_prior(denoiser, data="test"))
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 2,
        "priors": {"default": str(folder / "prior.safetensors")},
        "tasks": {"noise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {
            "degraded": "restoration.degraded.Degraded",
            "dps": {"class_path": "restoration.dps.DPS", "init_args": {"steps": 3}, "num_samples": 2},
        },
    }
    return parse_config(raw | more, "here")


def lines(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "costs.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_every_cell_has_its_costs(tmp_path):
    out = tmp_path / "out"
    results = evaluate(config(tmp_path), Options(output=out, accelerator="cpu"))
    found = lines(out)
    (back, _, backwards), (memory, unit, most) = results.more_costs()
    assert (back, backwards["noise", "dps"], memory, unit) == ("backward", 3, "memory", "peak MB")
    assert most["noise", "dps"] == float(found["dps"]["peak_mb"])
    assert "memory<small>peak MB</small>" in (out / "report.html").read_text()
    assert tuple(found["dps"]) == HEADER and list(found) == ["degraded", "dps"]
    assert (found["dps"]["nfe"], found["dps"]["backwards"], found["dps"]["chains"]) == ("3", "3", "4")
    assert (found["degraded"]["nfe"], found["degraded"]["backwards"]) == ("0", "0")
    assert float(found["dps"]["seconds"]) > 0 and found["dps"]["memory"] == PROCESS
    assert float(found["dps"]["peak_mb"]) > 50  # the process has torch in it
    before = (out / "memory.csv").read_text()
    evaluate(config(tmp_path), Options(output=out, accelerator="cpu"))  # nothing is restored: nothing is measured
    assert (out / "memory.csv").read_text() == before and lines(out) == found


def test_a_large_tensor_shows(tmp_path):
    peak = PeakMemory(torch.device("cpu"))
    gc.collect()  # what earlier tests left is not given back in between
    peak.begin()
    small = peak.megabytes()
    if small is None:
        return  # a system without /proc
    held = torch.ones(300_000_000, dtype=torch.uint8)
    large = peak.megabytes()
    assert large is not None and large - small > 100
    del held
    kept = peak.megabytes()
    assert kept is not None and kept >= large - 1  # a peak does not fall
    assert peak.what == PROCESS and PeakMemory(torch.device("cuda")).what == TENSORS


def test_the_most_of_all_processes_counts_and_a_torn_line_does_not(tmp_path):
    one, two = MemoryFile(tmp_path), MemoryFile(tmp_path)
    one.note(("t", "m"), 4, 100.0, PROCESS)
    one.note(("t", "m"), 2, 90.0, PROCESS)
    two.note(("t", "m"), 3, 120.0, PROCESS)
    two.note(("t", "other"), 1, None, PROCESS)
    shard = tmp_path / "shard"
    shard.mkdir()
    MemoryFile(shard).note(("t", "m"), 9, 110.0, PROCESS)
    with open(tmp_path / "memory.csv", "a") as file:
        file.write("t,m,5,9999.0,the pro")
    assert (tmp_path / "memory.csv").read_text().count("\n") == 2
    assert read_memory([tmp_path, shard, tmp_path / "none"]) == {("t", "m"): (3, 120.0, PROCESS)}
