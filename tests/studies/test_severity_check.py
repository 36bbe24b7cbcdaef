"""The check of the severity estimate counts what the estimate says."""

import sys

import pytest
import torch

from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.files import write_safetensors
from common.errors import run_cli
from degradations.severity.gaussian_blur import GaussianBlur
from diffusion.cold_restorer import ColdRestorer
from networks.unet import UNet
from studies import severity_check


class OneImage(torch.nn.Module):
    """Restores the one image that there is, whatever it is told."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, x, time, label=None):
        return self.image.expand_as(x)


def test_right_wrong_and_how_far():
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    family = GaussianBlur(steps=40, taps=5, std=0.5)
    restorer = ColdRestorer(network=OneImage(image), family=family, data_shape=(1, 8, 8))
    # 40 severities have 20 candidates: 1, 3, 5, ..., 40; an odd one is hit exactly.
    reading = severity_check.read(restorer, image.expand(7, -1, -1, -1), 3, batch_size=3)
    assert (reading.severity, reading.mean, reading.distance, reading.right) == (3, 3.0, 0.0, 1.0)
    between = severity_check.read(restorer, image.expand(2, -1, -1, -1), 4)
    assert between.distance == 1.0 and between.right == 1.0
    blind = ColdRestorer(network=OneImage(torch.zeros(1, 1, 8, 8)), family=family, data_shape=(1, 8, 8))
    assert severity_check.read(blind, image, 20).right == 0.0  # every residual is |y|: the first candidate


def test_the_command(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    restorer = ColdRestorer(network=network, family=GaussianBlur(steps=6, taps=3, std=1.0), data_shape=(1, 8, 8)).eval()
    write_safetensors(
        tmp_path / "p.safetensors", network, describe_cold_restorer(restorer, data="Digits"), dtype=torch.float32
    )

    def run(*words):
        fixed = ["--prior", tmp_path / "p.safetensors"]
        monkeypatch.setattr(sys, "argv", ["severity_check", *map(str, [*fixed, *words])])
        with pytest.raises(SystemExit) as outcome:
            run_cli(severity_check.main)
        return outcome.value.code, *capsys.readouterr()

    code, out, _ = run("--data", "datamodules.digits.Digits", "--num_images", 5)
    assert code == 0 and "true severity" in out and out.count("%") == 6
    code, _, err = run("--data", "datamodules.mnist.MNIST")
    assert code == 2 and "make them equal" in err
