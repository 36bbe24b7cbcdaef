"""python -m studies.invert: from a picture to its noise and back."""

import numpy as np
import pytest
import torch
from helpers import call, one_sentence, tiny_denoiser, write_tiny_prior
from PIL import Image

from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from common.errors import UserError
from diffusion.assemble import assemble
from diffusion.schedules import Cosine
from networks.unet import UNet
from studies.invert import main, round_trip


def test_the_round_trip_comes_back_with_refinements():
    picture = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain, refined = (round_trip(tiny_denoiser(), picture, steps=10, refinements=k) for k in (0, 30))
    assert refined.rmse_255 < 0.2 * plain.rmse_255 and refined.rmse_255 < 1
    assert refined.latent.shape == picture.shape == refined.image.shape


def test_the_command_writes_latent_and_comparison_and_refuses_what_does_not_fit(tmp_path):
    prior = write_tiny_prior(tmp_path / "prior.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    arguments = ("-m", "studies.invert", tmp_path / "in.png", "--prior", prior, "--output", tmp_path / "out")
    result = call(*arguments, "--steps", "5")
    assert result.returncode == 0, result.stderr
    assert (
        np.load(tmp_path / "out" / "latent.npy").shape == (1, 8, 8) and (tmp_path / "out" / "comparison.png").is_file()
    )
    assert "round trip RMSE" in result.stdout
    one_sentence(call(*arguments, "--label", "3"), "--label", "none")
    Image.fromarray(pixels[:6]).save(tmp_path / "in.png")
    one_sentence(call(*arguments), "[1, 6, 8]", "[1, 8, 8]")


def test_a_prior_that_knows_classes_only_needs_a_label(tmp_path, monkeypatch):
    network = UNet(
        in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4, num_classes=3, null_class=False
    )
    denoiser = assemble(network=network, schedule=Cosine(), prediction="epsilon", data_shape=(1, 8, 8))
    write_safetensors(tmp_path / "p.safetensors", network, describe_prior(denoiser, data="Digits"), dtype=torch.float32)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in.png")
    words = [
        "invert",
        str(tmp_path / "in.png"),
        "--prior",
        str(tmp_path / "p.safetensors"),
        "--output",
        str(tmp_path / "out"),
        "--steps",
        "3",
    ]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(UserError, match=r"--label is missing.* 0\.\.2"):
        main()
    monkeypatch.setattr("sys.argv", [*words, "--label", "2"])
    main()
    assert (tmp_path / "out" / "latent.npy").is_file()
