"""Two copies whose noises are independent."""

import pytest
import torch
from stopping_worlds import at, follow, noisy

from common.random_streams import RandomStreams
from degradations.mask import Mask
from restoration.stopping.injected_noise import InjectedNoise
from restoration.stopping.recorrupted import RecorruptedPair


def noises(count: int, alpha: float, **options):
    """Those of the fitted and of the judging copy of `count` measurements, the second read off the signal's
    gradient.
    """
    measurement = noisy(count, **options)
    watch = RecorruptedPair(alpha=alpha).watch(measurement, random=RandomStreams(3), iterations=9)
    w = RandomStreams(3).normal_batch("recorrupted", measurement.index, [0] * count, measurement.y.shape[1:])
    return measurement, watch, w


def test_the_noises_are_uncorrelated_and_as_strong_as_the_paper_says():
    """Var (n + alpha sigma w) = sigma^2 (1 + alpha^2), Var (n - sigma w / alpha) = sigma^2 (1 + alpha^-2), covariance
    0.
    """
    measurement, watch, w = noises(64, 0.5)
    clean = measurement.truth
    fitted, judging = watch.y - clean, measurement.y - 0.2 / 0.5 * w - clean
    size = fitted.numel() ** 0.5
    assert float(fitted.square().mean()) == pytest.approx(0.04 * 1.25, rel=6 / size)
    assert float(judging.square().mean()) == pytest.approx(0.04 * 5, rel=6 / size)
    assert abs(float((fitted * judging).mean())) < 4 * 0.04 * (1.25 * 5) ** 0.5 / size


def test_the_signal_is_the_error_to_the_second_copy():
    mask = (torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) < 0.7).float()
    measurement, watch, w = noises(2, 0.4, operator=Mask(mask, channels=1))
    f = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    watch.update(1, f, f)
    expected = ((f - measurement.y + 0.2 / 0.4 * w).square() / 4)[..., mask > 0].flatten(1).mean(1)
    assert torch.allclose(watch.values["error_to_other_copy"], expected)


def test_it_is_the_risk_in_other_words():
    """With s = alpha sigma and the same w, R = r + 2 (sigma^2 + s^2) d - (sigma^2 + s^2) and V differ by the same
    number for every iterate whatever.
    """
    measurement, watch, w = noises(2, 0.5)
    injected, differences = (
        InjectedNoise(measurement, w.double(), torch.full((2,), 0.1, dtype=torch.float64), torch.tensor(0.04)),
        [],
    )
    for seed in range(4):
        f = (seed + 1) * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        watch.update(seed + 1, f, f)
        differences.append(watch.values["error_to_other_copy"] - injected.judge(f)["risk"])
    assert torch.allclose(torch.stack(differences), differences[0].expand(4, 2), atol=1e-7)


def test_the_second_pass_fits_the_measurement():
    measurement = noisy(1)
    found = follow(RecorruptedPair(second_pass=True, patience=20, smooth=5), measurement, iterations=250)
    (begun,) = at([v.restart for v in found.verdicts])
    assert torch.equal(found.watch.y, measurement.y)
    assert int(found.stopped_at) == begun + round(1.05 * int(found.watch.best[0, 0]))


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"sigma_255": -1.0}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match="positive"):
        RecorruptedPair(**options)
