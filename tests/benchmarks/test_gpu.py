"""The table of a GPU has all its rows, at a tiny size on a CPU; a library that is missing is a line."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT, environment

from benchmarks import gpu
from common.compute import precisions


@pytest.mark.slow
def test_the_command():
    result = subprocess.run(
        ["benchmarks/gpu.sh", "--quick", "--markdown"],
        cwd=ROOT,
        env={**environment(), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=2400,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert os.access(ROOT / "benchmarks/gpu.sh", os.X_OK)
    table = [line for line in result.stdout.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table][2:]
    assert all(len(row) == len(gpu.HEAD) for row in rows)
    kinds = len(precisions("cpu"))
    ours = [row for row in rows if row[:2] == ["training step", "ours"]]
    assert len(ours) == 2 * kinds
    assert sum(row[0].startswith("DIP") for row in rows) == sum(row[0].startswith("DPS") for row in rows) == kinds
    assert sum(row[0].startswith("train.py") for row in rows) == 1
    for row in rows:
        assert row[4] == "not installed" or float(row[4]) > 0, row
    assert all(row[6].endswith("%") for row in ours)


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    sizes = gpu.Sizes(width=8, batch=2, pictures=2, side=32, iterations=2, steps=2, seconds=0.0)
    found, missing = gpu.networks(gpu.Bench(gpu.torch.device("cpu"), sizes))
    assert list(found) == ["ours"] and missing == ["diffusers", "denoising-diffusion-pytorch"]


def test_a_row_that_fails_leaves_the_others(capsys):
    sizes = gpu.Sizes(width=8, batch=2, pictures=2, side=32, iterations=2, steps=2, seconds=0.0)
    bench = gpu.Bench(gpu.torch.device("cpu"), sizes)

    def no_kernel():
        raise RuntimeError("no kernel image is available")

    def no_memory():
        raise gpu.torch.OutOfMemoryError("CUDA out of memory")

    bench.add(("a", "", "", ""), no_kernel, images=1)
    bench.add(("b", "", "", ""), no_memory, images=1)
    bench.add(("c", "", "", ""), lambda: lambda: gpu.torch.ones(3).sum().item(), images=2)
    assert "no kernel image" in bench.rows[0][4] and bench.rows[1][4] == "too little memory"
    assert float(bench.rows[2][4]) > 0 and bench.rows[2][-1] == "1", "one number was asked for"
