"""The metrics of several samples: by hand, and what exact posterior samples give."""

import pytest
import torch

from metrics.calibration import Calibration
from metrics.crps import CRPS
from metrics.pairwise_rmse import PairwiseRMSE
from metrics.psnr_best import PSNRBest
from metrics.psnr_mean import PSNRMean

ALL = [PSNRMean(), PSNRBest(), PairwiseRMSE(), Calibration(), CRPS()]


def test_two_samples_by_hand():
    truth = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    samples = torch.stack([truth - 10, truth + 30], 1)
    unit = 127.5**2
    assert PairwiseRMSE()(samples, truth, None).item() == pytest.approx(40 / 127.5)
    variance, bias = Calibration()(samples, truth, None)[0].tolist()
    assert variance == pytest.approx(800 / unit)  # (20^2 + 20^2) / (2 - 1)
    assert bias == pytest.approx((100 - 400) / unit)  # 10^2 - V / 2
    assert PSNRMean()(samples, truth, None).item() == pytest.approx(20 * torch.tensor(255 / 10).log10().item())
    # of samples 10 and 30 away
    assert PSNRBest()(samples, truth, None).item() == pytest.approx(20 * torch.tensor(255 / 10).log10().item())
    assert PSNRBest()(samples[:, [1, 1]], truth, None).item() == pytest.approx(
        20 * torch.tensor(255 / 30).log10().item()
    )


def test_exact_posterior_samples_are_calibrated():
    """Truth and samples exchangeable given y: V = B in the mean, mean pairwise RMSE = RMSE to the truth, mean-of-N
    gains 10 log10(2N / (N + 1)) dB.
    """
    generator = torch.Generator().manual_seed(0)
    N, values = 8, 200_000
    draws = 128 + 25 * torch.randn(1, N + 1, 1, 1, values, generator=generator)
    draws = draws.round().clamp(0, 255).to(torch.uint8)
    samples, truth = draws[:, :N], draws[:, N]
    variance, bias = Calibration()(samples, truth, None)[0].tolist()
    assert variance / bias == pytest.approx(1, abs=0.02)
    single = (samples[:, 0].double() - truth.double()).square().mean().sqrt() / 127.5
    assert PairwiseRMSE()(samples, truth, None).item() == pytest.approx(single.item(), rel=0.01)
    one = 10 * torch.log10(4 / single.square()).item()
    gained = PSNRMean()(samples, truth, None).item() - one
    assert gained == pytest.approx(10 * torch.tensor(2 * N / (N + 1)).log10().item(), abs=0.05)


def test_crps_is_the_integral_of_its_definition_and_fair():
    """Of N samples of N(0, s) and a truth t: int (F - 1[t <= z])^2 dz in the mean, whatever N; of equal samples it is
    their MAE. The pairs are those of the definition, one by one.
    """
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 256, (3, 5, 2, 4, 4), generator=generator, dtype=torch.uint8)
    truth = torch.randint(0, 256, (3, 2, 4, 4), generator=generator, dtype=torch.uint8)
    x, reference = samples.double() / 127.5, truth.double() / 127.5
    pairs = (x[:, :, None] - x[:, None]).abs().sum((1, 2)) / (2 * 5 * 4)
    expected = ((x - reference[:, None]).abs().mean(1) - pairs).flatten(1).mean(1)
    torch.testing.assert_close(CRPS()(samples, truth, None), expected)
    same = samples[:, :1].expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(CRPS()(same, truth, None), (x[:, 0] - reference).abs().flatten(1).mean(1))
    s, values = 25, 400_000
    z = torch.linspace(-300, 300, 60_001, dtype=torch.float64)
    cdf = torch.special.ndtr(z / s)
    exact = torch.trapezoid((cdf - (z >= 30).double()).square(), z).item() / 127.5
    for N in (2, 6):  # a divisor of N^2 would give more for 2 than for 6
        draws = (128 + s * torch.randn(1, N, 1, 1, values, generator=generator)).round().clamp(0, 255).to(torch.uint8)
        target = torch.full((1, 1, 1, values), 158, dtype=torch.uint8)
        assert CRPS()(draws, target, None).item() == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_refusals(metric):
    truth = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="at least 2"):
        metric(truth[:, None], truth, None)
    with pytest.raises(ValueError, match=r"\[B, N, C, H, W\]"):
        metric(truth[:, None].expand(-1, 2, -1, -1, -1), truth[..., :1], None)
    with pytest.raises(TypeError, match="uint8"):
        metric(truth[:, None].expand(-1, 2, -1, -1, -1).float(), truth.float(), None)
