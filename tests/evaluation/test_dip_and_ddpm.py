"""The shipped comparisons of a deep image prior and a diffusion prior are run, small."""

import dataclasses
import math

import pytest

from evaluation.config import read_config
from evaluation.run import Options, evaluate
from tests.evaluation.test_config import SHIPPED, stand_in

JOINED = [p for p in SHIPPED if p.stem.startswith("dip_and_ddpm_")]


def shortened(options):
    least = {"iterations": 2, "steps": 2, "patience": 1}
    return {
        k: shortened(v) if isinstance(v, dict) else min(v, least[k]) if k in least else v for k, v in options.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("path", JOINED, ids=lambda p: p.stem)
def test_the_joined_comparisons_run(path, tmp_path, monkeypatch):
    """As they are, with small networks, two images, two iterations and two steps: every method restores on every task
    of its own, and says its cost.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = stand_in(read_config([path]), tmp_path)
    methods = {n: dataclasses.replace(m, init_args=shortened(m.init_args)) for n, m in config.methods.items()}
    results = evaluate(
        dataclasses.replace(config, methods=methods, limit=2), Options(output=tmp_path / "out", accelerator="cpu")
    )
    assert len(results.table) == sum(len(m.tasks or config.tasks) for m in methods.values())
    assert all(math.isfinite(v["psnr"].mean) and math.isfinite(v["ssim"].mean) for v in results.table.values())
    assert (
        results.nfe["denoising", "dip"] == 0
        and results.nfe["denoising", "y_one_shot"] == 1
        and results.nfe["denoising", "dip_with_ddpm"] == 2
    )
