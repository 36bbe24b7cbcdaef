"""The comparison with peers runs, and its networks are what it says."""

import pytest
import torch
from helpers import call

from common.compute import precisions

pytest.importorskip("diffusers")
pytest.importorskip("denoising_diffusion_pytorch")


def test_equal_flops():
    from benchmarks.unet_vs_peers import contenders

    ours, theirs, third = contenders(16, torch.randn(2, 3, 32, 32), torch.tensor([0.0, 999.0]))
    assert theirs.flops == pytest.approx(ours.flops, rel=0.01), "the same weights"
    assert third.flops == pytest.approx(ours.flops, rel=0.35), "as near as multiples of 8 come at this width"


@pytest.mark.slow
def test_the_command():
    result = call("-m", "benchmarks.unet_vs_peers", "--quick", "--markdown")
    assert result.returncode == 0, result.stderr
    count = len(precisions("cpu"))
    assert result.stdout.count("| ours |") == result.stdout.count("| diffusers |") == 4 * count
    assert result.stdout.count("measured peak in") == count
