"""HaarPSI and MDSI against their equations, the distance in features against the network."""

import numpy as np
import pytest
import torch
from metric_toys import Quadrants, images, measured, worse
from scipy.signal import convolve2d

from metrics.base import Missing
from metrics.feature_rmse import FeatureRMSE
from metrics.haarpsi import HaarPSI
from metrics.mdsi import MDSI


def pairs(channels: int, height: int = 28, width: int = 28) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(3, channels, height // 4, width // 4, generator=generator)
    truth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").mul(255)
    x = truth + 25 * torch.randn(truth.shape, generator=generator)
    return x.round().clamp(0, 255).to(torch.uint8), truth.round().clamp(0, 255).to(torch.uint8)


def haarpsi_of_the_authors(x: np.ndarray, y: np.ndarray) -> float:
    """Of two grey images of even sides: the equations of 1607.06140, in NumPy and SciPy."""
    x, y = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2).mean((1, 3)) for v in (x, y))
    similarity, weight = [], []
    for transposed in (False, True):

        def magnitude(v, scale, transposed=transposed):
            kernel = 2.0**-scale * np.ones((2**scale, 2**scale))
            kernel[: len(kernel) // 2] *= -1
            full = np.abs(convolve2d(v, kernel.T if transposed else kernel))
            first = len(kernel) // 2  # where MATLAB's "same" begins for even sides; SciPy's begins one before
            return full[first : first + v.shape[0], first : first + v.shape[1]]

        local = []
        for scale in (1, 2):
            a, b = magnitude(x, scale), magnitude(y, scale)
            local.append((2 * a * b + 30) / (a**2 + b**2 + 30))
        similarity.append(sum(local) / 2)
        weight.append(np.maximum(magnitude(x, 3), magnitude(y, 3)))
    similarity, weight = np.stack(similarity), np.stack(weight)
    mean = (weight / (1 + np.exp(-4.2 * similarity))).sum() / weight.sum()
    return float((np.log(mean / (1 - mean)) / 4.2) ** 2)


def mdsi_of_the_paper(x: np.ndarray, y: np.ndarray) -> float:
    """Of two colour images [3, H, W] whose gradient and colour similarities sum to a positive map: 1608.07433."""
    light = np.array([[0.2989, 0.5870, 0.1140], [0.30, 0.04, -0.35], [0.34, -0.60, 0.17]])
    (lx, hx, mx), (ly, hy, my) = (np.einsum("ij,jhw->ihw", light, v) for v in (x, y))
    prewitt = np.array([[1, 0, -1]] * 3) / 3

    def gradient(v):
        return np.hypot(convolve2d(v, prewitt, mode="same"), convolve2d(v, prewitt.T, mode="same"))

    gx, gy, gf = gradient(lx), gradient(ly), gradient((lx + ly) / 2)

    def close(a, b, c):
        return (2 * a * b + c) / (a**2 + b**2 + c)

    gs = close(gx, gy, 140) + close(gx, gf, 55) - close(gy, gf, 55)
    cs = (2 * (hx * hy + mx * my) + 550) / (hx**2 + hy**2 + mx**2 + my**2 + 550)
    root = (0.6 * gs + 0.4 * cs).astype(complex) ** 0.25
    return float(np.abs(root - root.mean()).mean() ** 0.25)


def test_haarpsi_is_the_authors_equation():
    x, truth = pairs(1)
    found = HaarPSI()(x, truth, measured(truth))
    expected = [haarpsi_of_the_authors(*(v[b, 0].double().numpy() for v in (x, truth))) for b in range(3)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_mdsi_is_the_papers_equation():
    for channels in (3, 1):
        x, truth = pairs(channels)
        found = MDSI()(x, truth, measured(truth))
        both = [(v.expand(-1, 3, -1, -1).double().numpy()) for v in (x, truth)]
        expected = [mdsi_of_the_paper(both[0][b], both[1][b]) for b in range(3)]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_ends_of_the_scale(channels):
    """Equal images, also black and white ones; and a black restoration."""
    _, truth = pairs(channels)
    truth[0], truth[1] = 0, 255
    m = measured(truth)
    assert HaarPSI()(truth, truth, m).tolist() == pytest.approx([1, 1, 1], abs=1e-12)
    assert MDSI()(truth, truth, m).tolist() == [0, 0, 0]
    lost = HaarPSI()(torch.zeros_like(truth), truth, m)
    assert lost[0] == 1 and 0 <= float(lost[1:].max()) < 0.3


def test_a_brighter_image_costs_no_mdsi_but_psnr():
    truth = pairs(3)[1].clamp(max=200)
    assert float(MDSI()(truth + 20, truth, measured(truth)).max()) < 0.35 < float(MDSI()(*pairs(3), None).min())


def test_images_that_they_cannot_measure_are_a_reason():
    with pytest.raises(Missing, match="sides of 16 pixels, these images have 15x40"):
        HaarPSI().check((1, 15, 40))
    with pytest.raises(Missing, match="sides of 3 pixels, these images have 2x2"):
        MDSI().check((3, 2, 2))
    for metric in (HaarPSI(), MDSI()):
        with pytest.raises(Missing, match="4 channels"):
            metric.check((4, 32, 32))
        metric.check((1, 28, 28))


def test_the_distance_in_features_is_that_of_the_networks_features():
    network, truth = Quadrants(), images()
    x = worse(truth, 0.4)
    f, g = network.of(x).features.double(), network.of(truth).features.double()
    found = FeatureRMSE(features=network)(x, truth, measured(truth))
    torch.testing.assert_close(found, (f - g).pow(2).mean(1).sqrt(), rtol=1e-6, atol=0)
    assert FeatureRMSE(features=network)(truth, truth, measured(truth)).tolist() == [0] * 5
