"""The metrics of several samples: by hand, and what exact posterior samples give."""

import pytest
import torch

from metrics.calibration import Calibration
from metrics.pairwise_rmse import PairwiseRMSE
from metrics.psnr_mean import PSNRMean

ALL = [PSNRMean(), PairwiseRMSE(), Calibration()]


def test_two_samples_by_hand():
    truth = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    samples = torch.stack([truth - 10, truth + 30], 1)
    unit = 127.5**2
    assert PairwiseRMSE()(samples, truth, None).item() == pytest.approx(40 / 127.5)
    variance, bias = Calibration()(samples, truth, None)[0].tolist()
    assert variance == pytest.approx(800 / unit)  # (20^2 + 20^2) / (2 - 1)
    assert bias == pytest.approx((100 - 400) / unit)  # 10^2 - V / 2
    assert PSNRMean()(samples, truth, None).item() == pytest.approx(20 * torch.tensor(255 / 10).log10().item())


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


@pytest.mark.parametrize("metric", ALL, ids=lambda m: type(m).__name__)
def test_refusals(metric):
    truth = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="at least 2"):
        metric(truth[:, None], truth, None)
    with pytest.raises(ValueError, match=r"\[B, N, C, H, W\]"):
        metric(truth[:, None].expand(-1, 2, -1, -1, -1), truth[..., :1], None)
    with pytest.raises(TypeError, match="uint8"):
        metric(truth[:, None].expand(-1, 2, -1, -1, -1).float(), truth.float(), None)
