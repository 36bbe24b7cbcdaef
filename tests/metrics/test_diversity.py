import pytest
import torch

from metrics.diversity import set_metrics


def test_two_samples_by_hand():
    truth = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    samples = torch.stack([truth - 10, truth + 30], 1)
    found = set_metrics(samples, truth)
    unit = 127.5**2
    assert found.pairwise_rmse.item() == pytest.approx(40 / 127.5)
    assert found.variance.item() == pytest.approx(800 / unit)  # (20^2 + 20^2) / (2 - 1)
    assert found.bias.item() == pytest.approx((100 - 400) / unit)  # 10^2 - V / 2
    assert found.psnr_mean.item() == pytest.approx(20 * torch.tensor(255 / 10).log10().item())


def test_exact_posterior_samples_are_calibrated():
    """Truth and samples exchangeable given y: V = B in the mean, mean pairwise RMSE = RMSE to the truth, mean-of-N
    gains 10 log10(2N / (N + 1)) dB.
    """
    generator = torch.Generator().manual_seed(0)
    N, values = 8, 200_000
    draws = 128 + 25 * torch.randn(1, N + 1, 1, 1, values, generator=generator)
    draws = draws.round().clamp(0, 255).to(torch.uint8)
    samples, truth = draws[:, :N], draws[:, N]
    found = set_metrics(samples, truth)
    assert (found.variance / found.bias).item() == pytest.approx(1, abs=0.02)
    single = (samples[:, 0].double() - truth.double()).square().mean().sqrt() / 127.5
    assert found.pairwise_rmse.item() == pytest.approx(single.item(), rel=0.01)
    one = 10 * torch.log10(4 / single.square()).item()
    assert found.psnr_mean.item() - one == pytest.approx(10 * torch.tensor(2 * N / (N + 1)).log10().item(), abs=0.05)


def test_needs_two_samples():
    with pytest.raises(ValueError, match="at least 2"):
        set_metrics(torch.zeros(1, 1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
