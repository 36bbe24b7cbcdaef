"""What each target would run, as make prints it: nothing is run."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            "check",
            ["ruff check .", "ruff format --check .", "pyright", '-m pytest -n 2 --dist worksteal -m "not slow"'],
        ),
        ("test", ["-m pytest -n 2 --dist worksteal"]),
        ("test COVERAGE=1", ["-m pytest -n 2 --dist worksteal", "--cov"]),
        ("demo", ["train.py fit --config configs/demo/train.yaml", "evaluate.py --config configs/demo/evaluate.yaml"]),
        ("bench", ["-m benchmarks."]),
    ],
)
def test_targets_run_what_the_pages_say(target, words):
    found = subprocess.run(["make", "-n", *target.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(word in found for word in words), found


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("there", [False, True])
def test_the_demo_ends_with_a_photograph_where_its_prior_is(there, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "assets").mkdir()
    if there:
        (tmp_path / "assets" / "denoiser_natural.safetensors").write_bytes(b"")
    found = subprocess.run(["make", "-n", "demo"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ("--config configs/demo/photograph.yaml --output results/demo/photograph" in found) == there
    assert ("results/demo/photograph/report.html" in found) == there
