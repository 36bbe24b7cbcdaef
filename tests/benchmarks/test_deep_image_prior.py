"""The comparison with the published loop and deepinv runs, and its networks are what it says."""

import pytest
import torch
from helpers import call

from benchmarks.deep_image_prior import conv_decoder, measured, pictures, published_network
from common.compute import count_flops, precisions
from networks.untrained.skip import SkipArchitecture

pytest.importorskip("deepinv")


def test_the_published_network_is_ours():
    for recipe in (
        SkipArchitecture(preset="small"),
        SkipArchitecture(preset="denoising", channels=[8, 8], skip=[4, 4]),
    ):
        network = published_network(recipe)  # raises where it is another function
        assert sum(p.numel() for p in network.parameters()) == sum(
            p.numel() for p in recipe.build(outputs=3).parameters()
        )


def test_equal_flops():
    decoder, z_size, channels = conv_decoder(64, 360_000_000)
    assert (
        count_flops(lambda: decoder(torch.randn(1, *z_size))) == pytest.approx(360_000_000, rel=0.35)
        and channels % 8 == 0
    )


def test_pictures_differ_and_are_always_the_same():
    x = pictures(6, 32)
    assert x.shape == (6, 3, 32, 32) and torch.equal(x, pictures(6, 32)) and not torch.equal(x[0], x[4])
    m = measured(3, 32, torch.device("cpu"))
    assert float((m.y - m.truth).std()) * 127.5 == pytest.approx(25, rel=0.03)


@pytest.mark.parametrize("options", [[], ["--curves"]])
def test_the_command(options: list[str]):
    result = call("-m", "benchmarks.deep_image_prior", "--quick", "--markdown", *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("| ours |") == len(precisions("cpu")) and "| published loop |" in result.stdout
    assert ("deepinv, same network" in result.stdout) == (not options)
