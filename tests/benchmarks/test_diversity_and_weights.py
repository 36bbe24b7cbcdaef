"""The benchmark runs and names what it compares; what it measures is not asserted."""

import sys

from benchmarks import diversity_and_weights


def test_quick(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["diversity_and_weights", "--quick"])
    diversity_and_weights.main()
    out = capsys.readouterr().out
    for name in ("DPS, box: plain / guided", "DDRM, super-resolution x4: plain / guidance alone", "plain / weighted"):
        assert name in out
