"""The one-shot check against closed forms, its power to catch mistakes, and any CIFAR-10 prior put through it
(CIFAR10_PRIOR=PATH).
"""

import os
from pathlib import Path

import pytest
import torch
from helpers import ROOT, write_tiny_prior
from torch import Tensor

from checkpoints.load import load_prior
from common.errors import UserError
from common.image_range import to_float
from datamodules.cifar10 import CIFAR10
from datamodules.mnist import MNIST
from diffusion.closed_form import GaussianDenoiser
from diffusion.denoiser import Condition, Denoiser, Prediction
from diffusion.schedules import Linear
from studies import one_shot
from studies.one_shot import HO, TIMES, complaints, one_shot_rmse, read

SIGMAS = [float(Linear().sigma_of(torch.tensor(float(t)))) for t in TIMES]
SHAPE = (1, 6, 6)


def smooth_covariance() -> Tensor:
    """Neighbouring pixels resemble each other, as in a picture; standard deviation 0.2, so that hardly a pixel leaves
    the range.
    """
    x = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij"), -1).view(36, 2).double()
    return 0.04 * torch.exp(-torch.cdist(x, x).square() / 8)


def data(count: int = 600) -> Tensor:
    root = torch.linalg.cholesky(smooth_covariance() + 1e-9 * torch.eye(36).double())
    z = torch.randn(count, 36, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (0.1 + z @ root.T).float().view(count, *SHAPE)


def exact() -> GaussianDenoiser:
    return GaussianDenoiser(mean=0.1, covariance=smooth_covariance(), data_shape=SHAPE)


class Wrong(Denoiser):
    """The exact denoiser, used wrongly."""

    data_shape, sigma_min, sigma_max = SHAPE, 0.0, 1e9

    def __init__(self, how: str) -> None:
        super().__init__()
        self.exact, self.how = exact(), how

    def level_at(self, time: Tensor) -> Tensor:
        return self.exact.level_at(time)

    def predict(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        if self.how == "scale of the input":  # the variance preserving factor forgotten, or applied twice
            return self.exact.predict(x / (1 + sigma.view(-1, 1, 1, 1) ** 2).sqrt(), sigma)
        if self.how == "time":
            return self.exact.predict(x, 1.3 * sigma)
        if self.how == "range":  # a network of images in [0, 1], called with [-1, 1]
            shifted = self.exact.predict(2 * x - 1, 2 * sigma)
            return Prediction(x0=(shifted.x0 + 1) / 2, eps=shifted.eps)
        found = self.exact.predict(x, sigma)
        if self.how == "range of the output":
            return Prediction(x0=(found.x0 + 1) / 2, eps=found.eps)
        return Prediction(x0=x - sigma.view(-1, 1, 1, 1) * found.x0, eps=found.eps)  # "converter": x0 read as epsilon


def test_the_error_of_gaussian_data_is_a_formula():
    """E |x0_hat - x0|^2 = sum of lambda sigma^2 / (lambda + sigma^2) over the eigenvalues of the covariance."""
    variances = torch.linalg.eigvalsh(smooth_covariance()).clamp(min=0)
    for sigma, rmse in zip(SIGMAS, one_shot_rmse(exact(), data(), SIGMAS), strict=True):
        expected = 127.5 * float((variances * sigma**2 / (variances + sigma**2)).mean().sqrt())
        assert rmse == pytest.approx(expected, rel=0.04)


def test_a_right_denoiser_passes():
    # at larger levels so small a picture tells hardly more than each pixel alone
    low = read(exact(), data(), SIGMAS[:2])
    assert complaints(low) == []
    assert complaints(low, [r.rmse for r in low]) == []
    assert [r.best_factor for r in low] == pytest.approx([1, 1], abs=0.06)
    assert [r.slope for r in low] == pytest.approx([1, 1], abs=0.03)
    assert [r.offset for r in low] == pytest.approx([0, 0], abs=1)


@pytest.mark.parametrize("how", ["scale of the input", "time", "range", "range of the output", "converter"])
def test_what_is_used_wrongly_is_caught(how):
    assert complaints(read(Wrong(how), data(), SIGMAS[:2]))


def test_other_numbers_than_expected_are_caught():
    readings = read(exact(), data(100), SIGMAS[:2])
    assert complaints(readings, [r.rmse for r in readings]) == []
    assert len(complaints(readings, [1.3 * r.rmse for r in readings])) == 2


def test_the_noise_belongs_to_the_image_and_not_to_the_batch():
    images = data(10)
    assert one_shot_rmse(exact(), images, [0.3], batch_size=3) == pytest.approx(
        one_shot_rmse(exact(), images, [0.3]), rel=1e-6
    )
    assert one_shot_rmse(exact(), images, [0.3], seed=1) != one_shot_rmse(exact(), images, [0.3])


def test_the_levels_are_those_of_the_table():
    """At time 100 the noise is 43.6 of 255: reference sheet, 1.6; later times have more noise and more error."""
    assert 127.5 * SIGMAS[0] == pytest.approx(43.6, abs=0.05)
    assert list(HO.values()) == sorted(HO.values()) and set(TIMES) <= set(HO)


def test_the_command_tells_an_untrained_prior(tmp_path, monkeypatch, capsys):
    prior = write_tiny_prior(tmp_path / "prior.safetensors")
    monkeypatch.setattr(
        "sys.argv", ["one_shot", "--prior", str(prior), "--data", "datamodules.digits.Digits", "--limit", "20"]
    )
    one_shot.main()
    assert "not right: at sigma_255 43.6" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["one_shot", "--prior", str(prior), "--limit", "20"])
    with pytest.raises(UserError, match=r"CIFAR10' has images of \[3, 32, 32\], the prior knows \[1, 8, 8\]"):
        one_shot.main()


def test_the_released_prior_of_mnist():
    if not (Path(os.environ.get("DATA_DIR", "data")) / "MNIST").is_dir() or not os.environ.get("DATA_DIR"):
        pytest.skip("needs MNIST: set DATA_DIR")
    batch = MNIST().images("test").get(range(64))
    denoiser = load_prior(ROOT / "assets/ddpm_mnist.safetensors").denoiser
    readings = read(denoiser, to_float(batch.image), SIGMAS[:3])
    assert complaints(readings) == []
    assert [r.rmse for r in readings] == pytest.approx([10.5, 17.4, 25.3], rel=0.1)


def test_a_prior_of_cifar10_reaches_the_published_numbers():
    """Any network that was trained on CIFAR-10: CIFAR10_PRIOR=PATH DATA_DIR=data pytest
    tests/evaluation/test_one_shot.py -k cifar10
    """
    if not os.environ.get("CIFAR10_PRIOR"):
        pytest.skip("needs a prior of CIFAR-10: set CIFAR10_PRIOR to its path, and DATA_DIR")
    test = CIFAR10().images("test")
    batch = test.get(range(min(200, len(test))))
    prior = load_prior(os.environ["CIFAR10_PRIOR"]).denoiser
    condition = Condition(label=batch.label) if getattr(prior.network, "num_classes", None) else None
    readings = read(prior, to_float(batch.image), SIGMAS, condition=condition)
    print("\n".join(f"{t}: {r.rmse:.2f}, Ho et al. {HO[t]}" for t, r in zip(TIMES, readings, strict=True)))
    assert complaints(readings, [HO[t] for t in TIMES]) == []
