"""FID, KID, the Inception score, precision and recall of the same features by torch-fidelity and clean-fid."""

import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance as clean_fid_distance
from cleanfid.fid import kernel_distance
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from metrics.fid import fid
from metrics.inception_score import inception_score
from metrics.kid import kid
from metrics.moments import Moments
from metrics.precision_recall import precision, recall


def features(count: int, seed: int, d: int = 24, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(7))
    return (torch.randn(count, d, generator=generator) @ mixing + shift).relu()  # at least 0 as those of networks


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_fid(shift):
    x, y = features(400, 0, shift=shift), features(300, 1)
    ours = fid(x, Moments.of(y)).value
    stats = [fid_features_to_statistics(v) for v in (x, y)]
    theirs = fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-6)
    a, b = x.double().numpy(), y.double().numpy()
    expected = clean_fid_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    assert ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_kid(shift):
    """Their one subset is everything."""
    x, y = features(200, 0, shift=shift).double(), features(200, 1).double()
    ours = kid(x, y).value
    theirs = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=200, verbose=False)
    assert ours == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9, abs=1e-9)
    assert ours == pytest.approx(kernel_distance(x.numpy(), y.numpy(), num_subsets=1), rel=1e-9, abs=1e-9)


def test_inception_score():
    logits = 3 * features(230, 0, d=10)
    found = inception_score(logits.double().softmax(1), splits=10)
    theirs = isc_features_to_metric(logits, splits=10, shuffle=False)
    assert found.value == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert found.low < found.value < found.high < 10


def test_precision_and_recall():
    x, y = 0.6 * features(150, 0, d=5), features(120, 1, d=5)  # narrower: much is precise, some is not reached
    theirs = prc_features_to_metric(x.double(), y.double(), prc_neighborhood=3, verbose=False)
    assert precision(x, y).value == pytest.approx(float(theirs["precision"]), abs=1e-6)
    assert recall(x, y).value == pytest.approx(float(theirs["recall"]), abs=1e-6)
    assert 0.2 < precision(x, y).value <= 1 and 0.2 < recall(x, y).value < 0.98
