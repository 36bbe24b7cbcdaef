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
        (
            "demo",
            [
                f"{program} --config configs/demo/{name}.yaml"
                for program, name in (
                    ("train.py fit", "train"),
                    ("evaluate.py", "evaluate"),
                    ("evaluate.py", "photograph"),
                )
            ],
        ),
        ("bench", ["-m benchmarks."]),
        ("report", ["-m studies.report"]),
    ],
)
def test_targets_run_what_the_pages_say(target, words):
    found = subprocess.run(["make", "-n", *target.split()], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(word in found for word in words), found
