import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr
from torchmetrics.functional.image import structural_similarity_index_measure

from metrics.distortion import mae, psnr, rmse, ssim


def images(B=4, C=3, H=28, W=31, seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(B, C, H // 4, W // 4, generator=generator)
    truth = torch.nn.functional.interpolate(truth, size=(H, W), mode="bilinear").mul(255)
    x = truth + 20 * torch.randn(B, C, H, W, generator=generator)
    return x.round().clamp(0, 255).to(torch.uint8), truth.round().to(torch.uint8)


@pytest.mark.parametrize(("C", "H", "W"), [(1, 28, 28), (3, 11, 40), (3, 32, 32), (1, 64, 48)])
def test_equal_to_scikit_image(C, H, W):
    x, truth = images(C=C, H=H, W=W)
    for b in range(len(x)):
        a, t = (v[b].permute(1, 2, 0).numpy() for v in (x, truth))
        reference = structural_similarity(
            t, a, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2
        )
        assert abs(float(ssim(x, truth)[b]) - reference) < 1e-6
        assert abs(float(psnr(x, truth)[b]) - peak_signal_noise_ratio(t, a, data_range=255)) < 1e-9


@pytest.mark.parametrize(("C", "H", "W"), [(1, 28, 28), (3, 32, 32), (1, 64, 48)])
def test_equal_to_torchmetrics(C, H, W):
    """Its map of SSIM without the border of five pixels, where it mirrors the image; with it, small images differ by
    several hundredths.
    """
    x, truth = images(C=C, H=H, W=W)
    a, t = x.double(), truth.double()
    with_border, full = structural_similarity_index_measure(
        a, t, data_range=255.0, sigma=1.5, reduction="none", return_full_image=True
    )
    torch.testing.assert_close(ssim(x, truth), full[..., 5:-5, 5:-5].mean((1, 2, 3)), rtol=0, atol=1e-10)
    assert float((ssim(x, truth) - with_border).abs().max()) > 0.01
    reference = torchmetrics_psnr(a, t, data_range=255.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(x, truth), reference, rtol=1e-6, atol=0)  # it has 255 in float32


def test_closed_forms():
    truth = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    x = truth + torch.tensor([10, 0], dtype=torch.uint8).view(2, 1, 1, 1)
    assert rmse(x, truth).tolist() == [10, 0]
    assert mae(x, truth).tolist() == [10, 0]
    assert psnr(x, truth).tolist() == pytest.approx([20 * math.log10(25.5), 100])
    # Two constant images: covariances vanish and SSIM is the luminance term, with my = 10, mx = 0.
    c1 = 2.55**2
    assert ssim(x, truth).tolist() == pytest.approx([c1 / (100 + c1), 1])


def test_one_image_does_not_depend_on_its_neighbours():
    x, truth = images()
    for metric in (psnr, ssim, rmse, mae):
        assert torch.allclose(metric(x, truth)[1:2], metric(x[1:2], truth[1:2]), rtol=1e-14, atol=0)


def test_large_pictures_are_compared_plane_by_plane_to_the_same_number(monkeypatch):
    x, truth = images()
    at_once = ssim(x, truth)
    monkeypatch.setattr("metrics.distortion._AT_ONCE", 1)
    assert torch.equal(ssim(x, truth), at_once)


def test_small_images_have_no_ssim():
    x, truth = images(H=10, W=40)
    assert ssim(x, truth).isnan().all()
    assert psnr(x, truth).isfinite().all()


def test_refuses_floats_and_other_shapes():
    x, truth = images()
    with pytest.raises(TypeError, match="8-bit"):
        psnr(x.float(), truth)
    with pytest.raises(ValueError, match="same shape"):
        psnr(x[:, :1], truth)
