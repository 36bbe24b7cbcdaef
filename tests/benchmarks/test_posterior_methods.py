"""The benchmark of posterior methods runs, with a row for each of them and deepinv's beside three."""

import pytest
from helpers import call


def test_the_command():
    pytest.importorskip("deepinv")
    methods = "dps,ddrm,diffpir,repaint,plug_and_play"
    result = call("-m", "benchmarks.posterior_methods", "--quick", "--markdown", "--methods", methods)
    assert result.returncode == 0, result.stderr
    rows = {line.split("|")[1].strip(): line.split("|") for line in result.stdout.splitlines() if "%" in line}
    assert list(rows) == methods.split(",")
    assert [bool(row[6].strip()) for row in rows.values()] == [True, True, True, False, False]
    assert all(row[2].strip() == "5" for row in rows.values())
    unknown = call("-m", "benchmarks.posterior_methods", "--methods", "dsp")
    assert unknown.returncode == 2 and "there is no 'dsp'" in unknown.stderr
