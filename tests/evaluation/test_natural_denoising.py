"""The shipped comparisons of denoising run from end to end: trained and untrained, whole pictures and crops."""

import dataclasses
import math

from PIL import Image

from evaluation.config import read_config
from evaluation.run import Options, evaluate
from tests.evaluation.test_config import ROOT, stand_in


def results_of(name, folder, changes, limit):
    config = stand_in(read_config([ROOT / "configs" / "evaluate" / f"{name}.yaml"], changes), folder)
    return evaluate(
        dataclasses.replace(config, limit=limit, any_size=True), Options(output=folder / "out", accelerator="cpu")
    )


def test_trained_beside_untrained_on_pictures_of_unequal_sizes(tmp_path):
    table = results_of("natural_denoising", tmp_path, [("methods.wavelets.init_args.shifts", "0")], 2).table
    methods = ("degraded", "natural", "ffdnet", "total_variation", "nl_means", "wavelets")
    assert list(table) == [(f"noise_{level}", method) for level in (15, 25, 50) for method in methods]
    assert all(math.isfinite(v["psnr"].mean) and v["psnr"].n == 2 for v in table.values())
    restored = tmp_path / "out" / "restored" / "noise_25" / "nl_means"
    assert sorted(Image.open(p).size for p in restored.rglob("*.png")) == [(40, 48), (48, 40)]


def test_a_deep_image_prior_on_crops(tmp_path):
    changes = [("data.init_args.size", "16"), ("methods.dip.init_args.iterations", "3")]
    changes += [("methods.dip.init_args.architecture.init_args.channels", "[4]")]
    table = results_of("natural_denoising_dip", tmp_path, changes, 1).table
    assert [key for key in table if key[1] == "dip"] == [("noise_25", "dip")]
    assert all(math.isfinite(v["psnr"].mean) for v in table.values())
