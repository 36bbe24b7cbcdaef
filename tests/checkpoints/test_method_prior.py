"""A method gets the kind of prior that it asks for, or one sentence."""

import pytest
import torch
from helpers import write_tiny_prior

from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.files import write_safetensors
from checkpoints.method_prior import prior_for
from common.errors import UserError
from degradations.severity.base import SeverityFamily
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Denoiser
from networks.unet import UNet
from restoration.cold import ColdSampling
from restoration.dps import DPS


def write(path, family: SeverityFamily):
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    restorer = ColdRestorer(network=network, family=family, data_shape=(1, 8, 8)).eval()
    write_safetensors(path, network, describe_cold_restorer(restorer, data="Digits"), dtype=torch.float32)
    return path, restorer


def test_a_hot_restorer_serves_a_method_that_wants_a_denoiser(tmp_path):
    """At the levels of its severities it says what the restorer says of the scaled image."""
    family = GaussianNoiseFamily(steps=20)
    path, restorer = write(tmp_path / "hot.safetensors", family)
    given = prior_for(DPS, path)
    assert isinstance(given.model, Denoiser) and given.model.num_timesteps == 20
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in (1, 7, 20):
        a, b = family.scale_at(t), family.sigma_at(t)
        with torch.no_grad():
            found = given.model.predict(x / a, torch.full((3,), b / a)).x0
            torch.testing.assert_close(found, restorer.predict(x, t), atol=1e-4, rtol=0)


def test_the_wrong_kind_is_refused_both_ways(tmp_path):
    blur, _ = write(tmp_path / "blur.safetensors", GaussianBlur(steps=6, taps=3))
    with pytest.raises(
        UserError, match=r"methods\.m: DPS needs a denoiser.*undoes Gaussian blur.*lightning_modules\.ddpm\.DDPM"
    ):
        prior_for(DPS, blur, where="methods.m")
    with pytest.raises(UserError, match=r"is a denoiser, and a cold restorer is needed.*ColdDiffusion"):
        prior_for(ColdSampling, write_tiny_prior(tmp_path / "ddpm.safetensors"))


def test_half_precision_changes_a_restorer_by_rounding_alone(tmp_path):
    path, restorer = write(tmp_path / "blur.safetensors", GaussianBlur(steps=6, taps=3))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    half = prior_for(ColdSampling, path, precision="bf16").model
    with torch.no_grad():
        exact, rounded = restorer.predict(x, 3), half.predict(x, 3)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.02 * float(exact.abs().max()), rtol=0)
