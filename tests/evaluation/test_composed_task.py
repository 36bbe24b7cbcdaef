"""A blurred picture with holes as a task of a configuration."""

import csv

import numpy as np
import pytest
from PIL import Image

from evaluation.config import read_config
from evaluation.run import Options, evaluate

CONFIG = """
data: {{class_path: datamodules.digits.Digits}}
limit: 3
batch_size: {batch}
tasks:
  holes:
    degradation:
      class_path: degradations.composition.Composition
      init_args:
        parts:
          - {{class_path: degradations.circular_blur.CircularGaussianBlur, init_args: {{std: 0.6}}}}
          - {{class_path: degradations.random_mask.RandomMask, init_args: {{removed: 0.2}}}}
    noise: {{sigma_255: 3}}
  painted:
    degradation:
      class_path: degradations.composition.Composition
      init_args:
        parts:
          - {{class_path: degradations.reflecting_blur.ReflectingGaussianBlur, init_args: {{std: 0.6}}}}
          - {{class_path: degradations.given_mask.GivenMask, init_args: {{path: {mask}}}}}
    noise: {{sigma_255: 3}}
methods:
  pseudo_inverse: restoration.pseudo_inverse.PseudoInverse
  total_variation: {{class_path: restoration.total_variation.TotalVariation, init_args: {{iterations: 30}}}}
"""


def rows(folder) -> list[dict[str, str]]:
    with open(folder / "rows.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_is_restored_and_does_not_depend_on_the_batch(tmp_path, capsys):
    pixels = np.full((8, 8), 255, dtype=np.uint8)
    pixels[2:4, 3:6] = 0
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    found = {}
    for batch in (1, 3):
        path, output = tmp_path / f"{batch}.yaml", tmp_path / f"results_{batch}"
        path.write_text(CONFIG.format(batch=batch, mask=tmp_path / "mask.png"))
        evaluate(read_config([path]), Options(output=output, accelerator="cpu"))
        found[batch] = rows(output)
        assert "painted: 9.4 % of the pixels are missing in the mask" in capsys.readouterr().err
        assert (output / "images" / "holes.png").is_file() and (output / "images" / "painted.png").is_file()
    assert len(found[1]) == 2 * 2 * 3
    ordered = [sorted(f, key=lambda r: (r["task"], r["method"], r["image"])) for f in found.values()]
    for one, three in zip(*ordered, strict=True):
        assert float(one["psnr"]) == pytest.approx(float(three["psnr"]), abs=0.01)
    mean = {
        (task, method): np.mean([float(r["psnr"]) for r in found[3] if (r["task"], r["method"]) == (task, method)])
        for task in ("holes", "painted")
        for method in ("pseudo_inverse", "total_variation")
    }
    assert all(mean[task, "total_variation"] > mean[task, "pseudo_inverse"] for task in ("holes", "painted"))
