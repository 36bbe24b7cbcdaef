"""The Vendi score against closed forms and the authors' package."""

import math

import pytest
import torch
from metric_toys import Quadrants, images, worse
from scipy.linalg import eigvalsh
from vendi_score.vendi import score_dual

from metrics.features import Features
from metrics.vendi import Vendi, VendiOfSamples, vendi_score


def rows(N: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(N, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("N", "d"), [(40, 6), (6, 40), (10, 10), (2, 3), (1, 5)])
def test_equal_to_the_authors_package(N, d):
    features = rows(N, d)
    assert vendi_score(features) == pytest.approx(score_dual(features.numpy()), rel=1e-9)
    unit = (features / features.norm(dim=1, keepdim=True)).numpy()
    values = eigvalsh(unit @ unit.T / N)
    values = values[values > 1e-14]
    assert vendi_score(features) == pytest.approx(math.exp(-(values * torch.tensor(values).log().numpy()).sum()))


def test_edges():
    """All alike: 1. Orthogonal: N. Two groups of m and n: the exponential of the entropy of their shares. Opposite ones
    lie on one line: 1. The length of a feature does not matter, nor the order.
    """
    assert vendi_score(torch.ones(7, 3)) == pytest.approx(1, abs=1e-12)
    assert vendi_score(5 * torch.eye(8, 20)) == pytest.approx(8, rel=1e-12)
    groups = torch.eye(4)[[0] * 3 + [1] * 9]
    assert vendi_score(groups) == pytest.approx(math.exp(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75))), rel=1e-12)
    assert vendi_score(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])) == pytest.approx(1, abs=1e-12)
    features = rows(20, 5)
    scaled = features * torch.linspace(1e-3, 1e3, 20, dtype=torch.float64)[:, None]
    assert vendi_score(scaled.flip(0)) == pytest.approx(vendi_score(features), rel=1e-10)
    assert vendi_score(torch.cat([features, features])) == pytest.approx(vendi_score(features), rel=1e-10)
    with pytest.raises(ValueError, match="0 everywhere"):
        vendi_score(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"\[N, d\]"):
        vendi_score(torch.zeros(0, 2))


def test_of_a_set_with_its_interval():
    features, network = rows(300, 12), Quadrants()
    found = Vendi(features=network).distance(Features(features), Features(features), False)
    assert found.value == pytest.approx(vendi_score(features), rel=1e-10) and found.low < found.value < found.high
    without = vendi_score(features[15:])
    assert found.left_out[0] == pytest.approx(without, rel=1e-10)
    with pytest.raises(ValueError, match="blocks must be at least 2, got 1"):
        Vendi(features=network, blocks=1)


def test_of_samples():
    """Equal samples are worth one; more scatter is worth more, and never more than N."""
    truth, metric = images(), VendiOfSamples(features=Quadrants())

    def samples(amount):
        return torch.stack([worse(truth, amount, seed) for seed in range(4)], 1)

    assert metric(truth[:, None].expand(-1, 3, -1, -1, -1), truth, None).tolist() == pytest.approx([1] * 5, abs=1e-6)
    near, far = metric(samples(0.1), truth, None), metric(samples(0.9), truth, None)
    assert (near >= 1 - 1e-9).all() and (near < far).all() and (far <= 4).all()
