"""MS-SSIM against its equation in NumPy and SciPy; sizes that it cannot bear."""

import numpy as np
import pytest
import torch
from metric_toys import measured
from scipy.ndimage import correlate1d

from metrics.base import Missing
from metrics.distortion import ssim
from metrics.ms_ssim import MSSSIM, WEIGHTS, ms_ssim


def pictures(side: int, channels: int = 1, noise: float = 25) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, channels, side // 4, side // 4, generator=generator)
    truth = torch.nn.functional.interpolate(coarse, size=(side, side + 3), mode="bicubic").mul(255)
    x = truth + noise * torch.randn(truth.shape, generator=generator)
    return x.round().clamp(0, 255).to(torch.uint8), truth.round().clamp(0, 255).to(torch.uint8)


def equation(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """Wang et al. 2003 of one grey image; contrast and structure without a border, the last scale with a mirrored one,
    as torchmetrics has it.
    """
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blurred(v):
        return correlate1d(correlate1d(v, taps, axis=0, mode="mirror"), taps, axis=1, mode="mirror")

    c1, c2, found = 2.55**2, 7.65**2, 1.0
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    for s, w in enumerate(weights):
        mx, my = blurred(x), blurred(y)
        vx, vy, cov = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
        structure = (2 * cov + c2) / (vx + vy + c2)
        last = s == scales - 1
        value = ((2 * mx * my + c1) / (mx**2 + my**2 + c1) * structure) if last else structure[5:-5, 5:-5]
        found *= max(0.0, float(value.mean())) ** w
        h, b = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
        x, y = (v[:h, :b].reshape(h // 2, 2, b // 2, 2).mean((1, 3)) for v in (x, y))
    return found


@pytest.mark.parametrize(("scales", "side"), [(2, 28), (3, 64), (4, 99), (5, 176)])
def test_equal_to_the_equation(scales, side):
    x, truth = pictures(side)
    expected = [equation(x[b, 0].double().numpy(), truth[b, 0].double().numpy(), scales) for b in range(2)]
    np.testing.assert_allclose(ms_ssim(x, truth, scales=scales).numpy(), expected, rtol=1e-6)
    assert all(0.2 < v < 0.999 for v in expected)


def test_colour_is_a_mean_over_channels_and_a_batch_is_its_images():
    x, truth = pictures(64, channels=3)
    whole = MSSSIM(scales=3)(x, truth, measured(truth))
    assert MSSSIM(scales=3)(x[1:], truth[1:], measured(truth)).equal(whole[1:])
    grey = x[:, :1].expand(-1, 3, -1, -1), truth[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(ms_ssim(*grey, scales=3), ms_ssim(x[:, :1], truth[:, :1], scales=3), rtol=1e-7, atol=0)
    assert (ms_ssim(x, truth, scales=2) > ssim(x, truth)).all(), "coarse scales are less noisy"


@pytest.mark.parametrize(("scales", "least"), [(2, 12), (3, 44), (4, 99), (5, 176)])
def test_a_size_that_it_cannot_bear_is_a_reason_that_says_what_fits(scales, least):
    metric = MSSSIM(scales=scales)
    metric.check((1, least, least + 40))
    with pytest.raises(Missing, match=f"{scales} scales do not fit into images of {least - 1}x300"):
        metric.check((3, least - 1, 300))
    x, truth = pictures(least)
    assert torch.isfinite(metric(x, truth, measured(truth))).all()


def test_words():
    with pytest.raises(Missing, match="into images of 28x28: give scales: 2"):
        MSSSIM().check((1, 28, 28))
    with pytest.raises(Missing, match="no number of scales fits"):
        MSSSIM().check((1, 11, 28))
    with pytest.raises(ValueError, match=r"scales must be 2 \.\. 5, got 6"):
        MSSSIM(scales=6)
    assert (MSSSIM().label, MSSSIM(scales=2).label) == ("MS-SSIM", "MS-SSIM, 2 scales")
