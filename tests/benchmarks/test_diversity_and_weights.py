"""The benchmark runs and names what it compares; what it measures is not asserted."""

import sys

import pytest

from benchmarks import diversity_and_weights


def test_quick(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["diversity_and_weights", "--quick"])
    diversity_and_weights.main()
    out = capsys.readouterr().out
    for name in ("DPS, box: plain / guided", "DDRM, super-resolution x4: plain / guidance alone", "plain / weighted"):
        assert name in out


@pytest.mark.parametrize("option", ["--rounds", "--images", "--steps"])
def test_numbers_out_of_range(option, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["diversity_and_weights", option, "0"])
    with pytest.raises(SystemExit) as ended:
        diversity_and_weights.main()
    assert ended.value.code == 2 and option in capsys.readouterr().err.splitlines()[-1]
