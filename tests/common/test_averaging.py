import math

import pytest
import torch
from torch import nn

from common.averaging import WeightAverage, decay_of


def module(value: float) -> nn.Module:
    m = nn.Linear(2, 1)
    with torch.no_grad():
        for p in m.parameters():
            p.fill_(value)
    m.register_buffer("steps", torch.tensor(3))
    return m


def test_the_closed_form_of_a_geometric_average():
    m = module(0.0)
    average = WeightAverage(m)
    for k in range(1, 6):
        with torch.no_grad():
            for p in m.parameters():
                p.fill_(float(k))
        average.update(0.9)
    expected = sum(0.1 * 0.9 ** (5 - k) * k for k in range(1, 6))
    assert average.state_dict()["weights"]["weight"].flatten().tolist() == pytest.approx([expected] * 2)
    assert average.state_dict()["weights"]["steps"] == 3 and average.updates == 5


def test_half_life_is_in_images():
    """1,000 images leave one half, whatever the batch."""
    for batch in (10, 100):
        assert decay_of(batch, 10**9, half_life_images=1000, ramp=None) ** (1000 / batch) == pytest.approx(0.5)
    assert decay_of(64, 0, half_life_images=1000, ramp=0.05) == 0
    assert decay_of(64, 2000, half_life_images=1000, ramp=0.05) == pytest.approx(math.pow(0.5, 64 / 100))


def test_swapping_twice_is_the_identity_and_roles_are_told_apart():
    m = module(1.0)
    average = WeightAverage(m)
    with torch.no_grad():
        m.weight.fill_(5.0)
    with average.swapped():
        assert m.weight[0, 0] == 1.0
        assert average.raw_state()["weight"][0, 0] == 5.0 and average.state_dict()["weights"]["weight"][0, 0] == 1.0
        with average.swapped():
            assert m.weight[0, 0] == 1.0
        with pytest.raises(RuntimeError):
            average.update(0.5)
    assert m.weight[0, 0] == 5.0 and not average.is_swapped


def test_the_average_of_a_low_precision_network_stays_in_float32():
    """In bfloat16 a decay of 0.9999 would never move: 1 + 1e-4 rounds to 1."""
    m = module(1.0).to(torch.bfloat16)
    average = WeightAverage(m)
    with torch.no_grad():
        m.weight.fill_(2.0)
    average.update(0.9999)
    assert average.state_dict()["weights"]["weight"][0, 0].item() == pytest.approx(1.0001, abs=1e-6)


def test_state_round_trip():
    average = WeightAverage(module(1.0))
    state = {
        "weights": {"weight": torch.full((1, 2), 7.0), "bias": torch.zeros(1), "steps": torch.tensor(3)},
        "updates": 4,
    }
    average.load_state_dict(state)
    assert average.state_dict()["weights"]["weight"].eq(7).all() and average.updates == 4
