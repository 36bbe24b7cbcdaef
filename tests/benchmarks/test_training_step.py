"""The benchmark runs and names every switch; what it measures is not asserted."""

import sys

from benchmarks import training_step


def test_quick(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training_step", "--quick"])
    training_step.main()
    out = capsys.readouterr().out
    for name in (
        "fused / foreach",
        "fused / tensor",
        "foreach / tensor",
        "one / two",
        "train.py / bare loop",
        "with health",
        "with finite_loss",
    ):
        assert name in out
