"""Priors of other projects where a prior is asked for: methods, evaluate.py's configurations, generation."""

import pytest
import torch
import yaml
from helpers import tiny_denoiser

from checkpoints.foreign.export_diffusers import write_diffusers
from checkpoints.method_prior import prior_for
from checkpoints.prior import LoadedPrior, describe_prior
from common.errors import UserError
from evaluation.config import prior_of
from restoration.cold import ColdSampling
from restoration.dps import DPS


@pytest.fixture
def folder(tmp_path):
    """A folder of diffusers that holds the tiny denoiser."""
    denoiser = tiny_denoiser()
    return write_diffusers(
        tmp_path / "diffusers", LoadedPrior(denoiser, describe_prior(denoiser, data="Digits"), ""), source=tmp_path
    )


def adm_file(path, *, num_classes=None):
    """Random weights in guided-diffusion's layout: one of our networks under their names."""
    from checkpoints.foreign.adm_layout import names_of_adm
    from networks.unet import UNet

    torch.manual_seed(0)
    options = {
        "in_channels": 1,
        "out_channels": 2,
        "channels": 32,
        "multipliers": [1, 1],
        "blocks": 1,
        "attention": [],
        "resample": "residual",
        "time_condition": "scale_shift",
        "norm_eps": 1e-5,
        "time_waves": "adm",
    }
    network = UNet(**options, num_classes=num_classes, null_class=False)
    theirs = {ours: name for name, ours in names_of_adm(options).items()}
    state = {f"{theirs[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in network.state_dict().items()}
    torch.save({k: v[..., 0] if k.endswith(("qkv.weight", "proj_out.weight")) else v for k, v in state.items()}, path)
    flags = {"image_size": 8, "num_head_channels": 32, "diffusion_steps": 100, "num_channels": 32}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(flags))
    return path


def test_a_method_takes_any_of_them(folder, tmp_path):
    x, sigma = torch.randn(1, 1, 8, 8), torch.tensor([2.0])
    found = prior_for(DPS, folder)
    torch.testing.assert_close(found.model.predict(x, sigma).x0, tiny_denoiser().predict(x, sigma).x0, rtol=0, atol=0)
    adm = prior_for(DPS, adm_file(tmp_path / "a.pt"))
    assert (
        adm.model.data_shape == (1, 8, 8)
        and adm.model.predict(x, sigma).variance is not None
        and adm.fingerprint != found.fingerprint
    )


def test_what_a_method_cannot_use(folder, tmp_path):
    with pytest.raises(UserError, match=r"ColdSampling needs a cold restorer, and .* is a denoiser of another project"):
        prior_for(ColdSampling, folder)
    with pytest.raises(UserError, match="knows classes only, and a method gives no labels"):
        prior_for(DPS, adm_file(tmp_path / "a.pt", num_classes=3))
    with pytest.raises(UserError, match="the preset 'ffhq_256' is not that of"):
        prior_for(DPS, adm_file(tmp_path / "a.pt"), preset="ffhq_256")


def test_a_configuration_names_a_preset():
    assert prior_of({"path": "ffhq_10m.pt", "preset": "ffhq_256"}, "priors.default").preset == "ffhq_256"
    with pytest.raises(
        UserError, match=r"priors\.default\.preset: there is no preset 'ffhq' \(did you mean 'ffhq_256'"
    ):
        prior_of({"path": "ffhq_10m.pt", "preset": "ffhq"}, "priors.default")
