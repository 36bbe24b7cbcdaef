"""torchmetrics whose own start waits: the same classes, and everything else on demand."""

import subprocess
import sys

import pytest
from helpers import ROOT, environment

CODE = """
import sys
import common.late_torchmetrics
import lightning.pytorch as pl
import torchmetrics
heavy = ("torchvision", "transformers", "scipy.signal", "torchmetrics.functional")
assert not [m for m in heavy if m in sys.modules], "Lightning alone needs none of them"
from torchmetrics import MeanMetric, Metric
import torchmetrics.aggregation
assert MeanMetric is torchmetrics.aggregation.MeanMetric and issubclass(MeanMetric, Metric)
assert not hasattr(torchmetrics, "__wrapped__") and "torchvision" not in sys.modules
assert torchmetrics.PeakSignalNoiseRatio(data_range=2.0) is not None
assert "torchmetrics.functional" in sys.modules and torchmetrics.MeanMetric is MeanMetric
assert torchmetrics.functional.mean_squared_error is not None
try:
    torchmetrics.nonsense
except AttributeError as error:
    assert "nonsense" in str(error)
else:
    raise SystemExit("a name that is not there was given")
"""


@pytest.mark.slow
def test_the_heavy_half_comes_when_it_is_asked_for():
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]


def test_what_is_imported_already_stays(monkeypatch):
    from common import late_torchmetrics

    monkeypatch.setitem(sys.modules, "torchmetrics", pytest)
    assert not late_torchmetrics.apply() and sys.modules["torchmetrics"] is pytest
