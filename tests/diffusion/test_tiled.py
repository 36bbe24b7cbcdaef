"""A picture in tiles is the whole picture."""

import pytest
import torch

from common.random_streams import RandomStreams
from diffusion.closed_form import GaussianDenoiser
from diffusion.edm import EDMDenoiser, LogNormal
from diffusion.tiled import Tiled
from networks.denoising_unet import DenoisingUNet


def small_denoiser(blocks: int = 1) -> EDMDenoiser:
    """A random fully convolutional network, whose output depends on all that it sees."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DenoisingUNet(in_channels=1, channels=4, multipliers=[1, 2], blocks=blocks, patch=2, time_channels=4)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.2 * torch.randn_like(p))
    levels = LogNormal(sigma_min=0.01, sigma_max=4.0)
    denoiser = EDMDenoiser(network=network, levels=levels, sigma_data=0.5, data_shape=(1, 16, 16))
    return denoiser.eval().requires_grad_(False)


def picture(height: int, width: int) -> torch.Tensor:
    return RandomStreams(0).normal("tiles", 0, 0, (2, 1, height, width))


@pytest.mark.parametrize(("height", "width"), [(61, 75), (64, 32), (33, 90)])
@pytest.mark.parametrize("tile", [16, 23, 40])
def test_tiles_are_the_whole_picture(height, width, tile):
    """Sides that are multiples of nothing, tiles smaller and larger than the overlap."""
    denoiser = small_denoiser()
    x, sigma = picture(height, width), torch.tensor([0.3, 0.8])
    whole, tiled = denoiser.predict(x, sigma), Tiled(denoiser, tile=tile, whole=0).predict(x, sigma)
    torch.testing.assert_close(tiled.x0, whole.x0, atol=1e-4, rtol=0)
    torch.testing.assert_close(tiled.eps, whole.eps, atol=1e-4, rtol=0)
    assert tiled.variance is None


def test_less_overlap_would_be_seen():
    """The test above can fail: with a margin of one cell tiles differ."""
    denoiser = small_denoiser()
    x, sigma = picture(64, 64), torch.tensor([0.3, 0.8])
    tiled = Tiled(denoiser, tile=16, whole=0)
    tiled.margin = tiled.multiple
    assert float((tiled.predict(x, sigma).x0 - denoiser.predict(x, sigma).x0).abs().max()) > 1e-3


def test_a_small_picture_goes_through_at_once(monkeypatch):
    denoiser, calls = small_denoiser(), []
    predict = denoiser.predict
    monkeypatch.setattr(denoiser, "predict", lambda x, *rest: (calls.append(tuple(x.shape[2:])), predict(x, *rest))[1])
    tiled = Tiled(denoiser, tile=16, whole=40 * 40)
    tiled.predict(picture(40, 40), torch.tensor([0.3, 0.8]))
    assert calls == [(40, 40)]
    tiled.predict(picture(40, 41), torch.tensor([0.3, 0.8]))
    assert len(calls) == 1 + 9


def test_it_says_what_the_denoiser_says_of_itself():
    denoiser = small_denoiser()
    tiled = Tiled(denoiser)
    assert tiled.refused(0.1, 9.0) == denoiser.refused(0.1, 9.0)
    for name in (
        "data_shape",
        "sigma_min",
        "sigma_max",
        "num_timesteps",
        "any_size",
        "reach",
        "multiple",
        "takes_maps",
    ):
        assert getattr(tiled, name) == getattr(denoiser, name), name
    assert torch.equal(tiled.level_at(torch.tensor([3])), denoiser.level_at(torch.tensor([3])))


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="finite reach"):
        Tiled(GaussianDenoiser(mean=0.0, covariance=1.0, data_shape=(1, 4, 4)))
    with pytest.raises(ValueError, match="tile"):
        Tiled(small_denoiser(), tile=0)
