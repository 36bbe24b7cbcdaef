"""The least value so far, and what a watch saves."""

import pytest
import torch
from stopping_worlds import noisy

from common.random_streams import RandomStreams
from restoration.stopping.base import Patience, images_mean
from restoration.stopping.es_wmv import ESWMV


def test_patience_follows_its_definition():
    """Against a loop over plain numbers: strictly lower is better, values that are not judged do not count, and nothing
    changes after the end.
    """
    drawn = torch.rand(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).round(decimals=1)
    judged = torch.rand(60, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    patience = Patience(5, 7, torch.device("cpu"))
    least, at, stopped = [float("inf")] * 5, [0] * 5, [False] * 5
    for iteration, (values, counts) in enumerate(zip(drawn, judged, strict=True), start=1):
        patience.update(iteration, values, counts)
        for k in range(5):
            better = not stopped[k] and bool(counts[k]) and float(values[k]) < least[k]
            least[k], at[k] = (float(values[k]), iteration) if better else (least[k], at[k])
            assert bool(patience.improved[k]) == better
            stopped[k] = stopped[k] or (at[k] > 0 and iteration - at[k] >= 7)
            assert bool(patience.stopped[k]) == stopped[k]
    assert all(stopped) and patience.at.tolist() == at and patience.least.tolist() == least


def test_patience_forgets_images():
    patience = Patience(2, 1, torch.device("cpu"))
    patience.update(1, torch.tensor([1.0, 1.0]))
    patience.update(2, torch.tensor([2.0, 2.0]))
    assert patience.stopped.tolist() == [True, True]
    patience.reset(torch.tensor([True, False]))
    patience.update(3, torch.tensor([3.0, 0.0]))
    assert patience.stopped.tolist() == [False, True] and patience.improved.tolist() == [True, False]


def test_patience_is_at_least_one():
    with pytest.raises(ValueError, match="patience"):
        Patience(1, 0, torch.device("cpu"))


def test_the_mean_is_of_images():
    x = torch.tensor([[[1.0, 2.0]], [[3.0, 5.0]]])
    assert images_mean(x).tolist() == [1.5, 4.0] and images_mean(x).dtype == torch.float64


def test_a_state_is_a_copy():
    """What was saved does not follow what comes after, and another watch goes on from it exactly."""
    measurement, outputs = noisy(2), torch.randn(12, 2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    watches = [ESWMV(window=3, patience=4).watch(measurement, random=RandomStreams(0), iterations=12) for _ in range(2)]
    for iteration in range(1, 6):
        watches[0].update(iteration, outputs[iteration - 1], outputs[iteration - 1])
    state = watches[0].state_dict()
    saved = state["least"]["least"].clone()
    for iteration in range(6, 13):
        watches[0].update(iteration, outputs[iteration - 1], outputs[iteration - 1])
    assert torch.equal(state["least"]["least"], saved)
    watches[1].load_state_dict(state)
    for iteration in range(6, 13):
        watches[1].update(iteration, outputs[iteration - 1], outputs[iteration - 1])
    assert torch.equal(watches[0].least.least, watches[1].least.least) and torch.equal(
        watches[0].least.at, watches[1].least.at
    )
