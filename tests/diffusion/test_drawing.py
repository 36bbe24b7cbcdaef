"""Nothing is drawn from a prior that does not know pure noise: said by the program that was asked, before any work."""

import sys

import numpy as np
import pytest
import torch
from helpers import tiny_denoiser
from PIL import Image

from common.errors import UserError
from diffusion.drawing import refuse_quiet
from evaluation.generation.config import read_generation_config
from evaluation.run import Options
from networks.denoisers.ffdnet import FFDNet

WORDS = r"drawing begins in pure noise, and the highest level that the prior knows is sigma_255 75, where pictures"


@pytest.fixture
def published(tmp_path) -> str:
    """A denoiser in KAIR's layout, for levels of 0 to 75."""
    path = tmp_path / "ffdnet.pth"
    torch.save(FFDNet(channels=1, width=4, layers=2).state_dict(), path)
    return str(path)


def test_a_diffusion_prior_is_drawn_from():
    refuse_quiet(tiny_denoiser((1, 8, 8)), "here")


def test_evaluate_refuses_to_draw_from_a_published_denoiser(published, tmp_path):
    from evaluation.generation.run import dry_run, evaluate

    path = tmp_path / "draw.yaml"
    path.write_text(
        "data: datamodules.digits.Digits\n"
        "features: tests.evaluation.toys.Corners\n"
        f"priors: {{default: {published}}}\n"
        "samplers: {ddim: {class_path: diffusion.samplers.ddim.DDIM, steps: 5}}\n"
        "num_images: 4\n"
    )
    for run in (dry_run, evaluate):
        with pytest.raises(UserError, match=rf"^samplers.ddim: {WORDS}"):
            run(read_generation_config([path]), Options(output=tmp_path / "out", accelerator="cpu"))


def test_an_inversion_draws_too(published, tmp_path, monkeypatch):
    from studies.invert import main

    Image.fromarray(np.full((8, 8), 128, np.uint8)).save(tmp_path / "in.png")
    words = [str(tmp_path / "in.png"), "--prior", published, "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["invert.py", *words])
    with pytest.raises(UserError, match=rf"^--prior: {WORDS}"):
        main()
    assert not (tmp_path / "out").exists()
