"""Training with masks: the times and weights that each variant asks for, and a loss that falls where it should."""

import math

import numpy as np
import pytest
import torch
from helpers import tiny_denoiser
from torch import Tensor, nn

from common.build import build
from diffusion.assemble import assemble
from diffusion.denoiser import DiscreteDenoiser
from diffusion.edm import LogNormal
from diffusion.losses import denoising_loss
from diffusion.masked_training import ExactPosterior, MaskedLoss, MaskedNoise, MaskedTraining, PixelSeverity
from diffusion.schedules import Cosine, Linear

DENOISER = tiny_denoiser((1, 8, 8))
#: Half of the first image is missing, all of the second, nothing of the third.
MISSING = torch.stack([torch.tensor([[1.0, 0.0]]).repeat(8, 4), torch.ones(8, 8), torch.zeros(8, 8)])[:, None]
TIME = torch.tensor([400, 400, 400])
VARIANTS = [MaskedLoss(), MaskedNoise(), PixelSeverity(), ExactPosterior()]


def asked(variant: MaskedTraining) -> tuple[Tensor, Tensor | None]:
    return variant.ask(DENOISER, TIME, MISSING)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: type(v).__name__)
def test_where_all_is_missing_it_is_the_plain_question(variant):
    """Also to the last digit of the loss: one network is an unconditional prior besides."""
    time, weight = asked(variant)
    assert bool((time[1] == 400).all())
    assert weight is None or bool((weight[1] == 1).all())
    x0, noise = torch.rand(3, 1, 8, 8) * 2 - 1, torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        loss = denoising_loss(DENOISER, x0, noise, time, pixel_weight=weight)
        plain = denoising_loss(DENOISER, x0, noise, TIME)
    torch.testing.assert_close(loss[1], plain[1], rtol=1e-5, atol=1e-6)
    assert loss.shape == (3,) and bool(loss.isfinite().all()) and float((loss[0] - plain[0]).abs()) > 1e-5


def test_masked_loss_counts_missing_pixels_more():
    """1 + 4 over the mean 3, and 1 over it; without holes all count 1."""
    time, weight = asked(MaskedLoss(strength=4))
    assert torch.equal(time, TIME) and weight is not None
    assert weight[0].unique().tolist() == pytest.approx([1 / 3, 5 / 3])
    assert bool((weight[2] == 1).all())


def test_masked_noise_leaves_known_pixels_at_the_least_noise():
    time, weight = asked(MaskedNoise())
    assert weight is not None and set(time[0].unique().tolist()) == {0, 400} and bool((time[2] == 0).all())
    assert set(weight[0].unique().tolist()) == {0.0, 2.0} and bool((weight[2] == 0).all())
    assert bool(((time[0] == 400) == (MISSING[0] == 1)).all())


def test_known_pixels_are_ahead():
    """By half of 1000 times: at 400 they are at 0 already, at 700 at 200. A soft mask lies between."""
    time, weight = PixelSeverity(ahead=0.5).ask(DENOISER, torch.tensor([700, 700, 400]), MISSING)
    assert weight is None and set(time[0].unique().tolist()) == {200, 700} and bool((time[2] == 0).all())
    soft, _ = PixelSeverity(ahead=0.5).ask(DENOISER, torch.tensor([700]), torch.full((1, 1, 8, 8), 0.5))
    assert set(soft.unique().tolist()) == {450}


def test_the_exact_posterior_has_the_level_of_both_measurements_together():
    """Of x_t at sigma_t and y at 0.1; where sigma_t is far below, y adds nothing."""
    for time in (800, 400, 5):
        times, _ = ExactPosterior(noise_255=12.75).ask(DENOISER, torch.full((3,), time), MISSING)
        sigma, known = (float(DENOISER.schedule.sigma_of(torch.tensor(float(t)))) for t in (time, times[2, 0, 0, 0]))
        both = 1 / math.sqrt(1 / sigma**2 + 1 / 0.1**2)
        assert known == pytest.approx(max(both, DENOISER.sigma_min), rel=0.2)
        assert bool((times[0][MISSING[0] == 1] == time).all())


def test_what_does_not_fit():
    class Single(nn.Module):
        def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
            return x

    options = {"schedule": Cosine(), "data_shape": (1, 8, 8)}
    single = DiscreteDenoiser(network=Single(), prediction="v", **options)
    MaskedLoss().check(single)
    with pytest.raises(ValueError, match="takes one for an image"):
        MaskedNoise().check(single)
    learned = DiscreteDenoiser(network=Single(), prediction="epsilon", variance="learned_range", **options)
    with pytest.raises(ValueError, match="learned variance"):
        MaskedLoss().check(learned)
    edm = assemble(
        network=DENOISER.network,
        schedule=LogNormal(),
        prediction="edm",
        data_shape=(1, 8, 8),
        variance="fixed",
        sigma_data=0.5,
    )
    with pytest.raises(ValueError, match="continuum"):
        ExactPosterior().check(edm)
    for make, words in (
        (lambda: MaskedLoss(strength=-1), "strength must be at least 0"),
        (lambda: PixelSeverity(ahead=0), "ahead must lie"),
        (lambda: ExactPosterior(noise_255=0), "noise_255 must be positive"),
    ):
        with pytest.raises(ValueError, match=words):
            make()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: type(v).__name__)
def test_it_is_built_from_its_description(variant):
    again = build(variant.spec, MaskedTraining, where="variant")
    assert type(again) is type(variant) and build(again.spec, MaskedTraining, where="variant").spec == again.spec


def test_a_weight_of_a_pixel_multiplies_its_error():
    """Weight 4 on the left half and 0 on the right is 4 times the loss of the left half alone."""
    linear = DiscreteDenoiser(network=_Zero(), schedule=Linear(), prediction="epsilon", data_shape=(1, 1, 2))
    x0, noise = torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, 5.0]]]])
    weight = torch.tensor([[[[4.0, 0.0]]]])
    assert float(denoising_loss(linear, x0, noise, torch.tensor([10]), pixel_weight=weight)) == 4 * 9 / 2


class _Zero(nn.Module):
    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


def test_regions_multiply_the_weight(tmp_path):
    """Two to one, on top of 5 to 1; and where everything is missing, which is plain training but for them."""
    path = tmp_path / "regions.npz"
    np.savez(path, weight=np.where(np.arange(8) < 4, 2.0, 1.0)[:, None] * np.ones((8, 8)))
    time, weight = MaskedLoss(strength=4, regions=str(path)).ask(DENOISER, TIME, MISSING)
    assert torch.equal(time, TIME) and weight is not None
    assert (weight[0] / weight[0].min()).unique().tolist() == pytest.approx([1, 2, 5, 10])
    assert float(weight[0].mean()) == pytest.approx(1) and weight[1].unique().tolist() == pytest.approx([2 / 3, 4 / 3])
    for content, words in (
        ({"weight": np.zeros((8, 8))}, "not all 0"),
        ({"weight": np.full((8, 8), np.nan)}, "finite, .*lowest nan"),
        ({"weight": np.full((8, 8), -2.0)}, r"at least 0 .*lowest -2: make them with"),
        ({"weight": np.ones(8)}, r"\[H, W\], .* got \[8\]"),
        ({"weight": np.ones((0, 8))}, r"got \[0, 8\]: make"),
        ({"wait": np.ones((8, 8))}, "no file of regions"),
    ):
        np.savez(path, **content)
        with pytest.raises(ValueError, match=words):
            MaskedLoss(regions=str(path))
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match="no file of regions"):
        MaskedLoss(regions=str(path))
    np.savez(path, weight=np.ones((7, 8)))
    with pytest.raises(ValueError, match="weights of 7x8 pixels, the images have 8x8"):
        MaskedLoss(regions=str(path)).check(DENOISER)
    with pytest.raises(ValueError, match="there is no file of regions"):
        MaskedLoss(regions="none.npz")
