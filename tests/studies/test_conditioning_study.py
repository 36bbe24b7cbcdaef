"""The study of conditioning images in training, on embedded digits with tiny networks: what is measured, that it goes
on, and the regression with equal banks.
"""

import copy
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

from checkpoints.load import load_prior
from common.errors import UserError
from common.yaml_files import read_yaml
from studies.conditioning_study import read_study, run_study

TINY = {
    "data": {"class_path": "datamodules.digits.Digits", "init_args": {"validation": 16}},
    "network": {
        "class_path": "networks.unet.UNet",
        "init_args": {"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "groups": 4},
    },
    "schedule": {"class_path": "diffusion.schedules.Cosine"},
    "features": {"class_path": "tests.evaluation.toys.Corners"},
    "banks": {"noisy": {"method": "restoration.degraded.Degraded", "noise": {"sigma": 0.5}}},
    "variants": {
        "plain": {"images": 40},
        "conditional": {"images": 40, "bank": "noisy", "conditioning": {"form": "conditional"}},
        "shortened": {
            "images": 40,
            "bank": "noisy",
            "conditioning": {"form": "shifted", "last_time": 0.5},
            "steps": 3,
            "at": [3],
        },
    },
    "steps": 4,
    "at": [2, 4],
    "batch_size": 8,
    "draws": 24,
    "per_image": 2,
    "sampling_steps": 3,
    "sigmas": [0.5, 10.0],
}


def study(folder: Path, **changes):
    content = {**copy.deepcopy(TINY), **changes}
    content["banks"]["noisy"]["path"] = str(folder / "bank.safetensors")
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return read_study(path)


def test_it_measures_every_variant_and_goes_on(tmp_path):
    said = []
    rows = run_study(study(tmp_path), tmp_path, say=lambda text, flush: said.append(text))
    assert [(r["variant"], r["step"]) for r in rows] == [
        ("plain", 2),
        ("plain", 4),
        ("conditional", 2),
        ("conditional", 4),
        ("shortened", 3),
    ]
    assert all(r["x0_loss_0.5"] > 0 and r["fid"] == r["fid"] and r["diversity"] > 0 for r in rows)
    assert "x0_loss_10" in rows[0] and "x0_loss_10" not in rows[4]  # a shortened chain has no such level
    assert (
        "pixel_rmse_of_one_image" in rows[2]
        and rows[2]["seconds_in_all"] > rows[2]["seconds"]
        and rows[0]["seconds_in_all"] == rows[0]["seconds"]
    )
    assert (tmp_path / "conditional-0.png").is_file()
    assert (
        load_prior(tmp_path / "conditional-0.safetensors").denoiser.takes_image
        and not load_prior(tmp_path / "plain-0.safetensors").denoiser.takes_image
    )
    said.clear()
    again = run_study(study(tmp_path), tmp_path, say=lambda text, flush: said.append(text))
    assert said == [] and again == rows
    # One seed is one course of training, whatever else is trained.
    (tmp_path / "runs" / "conditional-0.json").unlink()
    repeated = run_study(study(tmp_path), tmp_path, say=lambda text, flush: None)
    assert repeated[3]["x0_loss_0.5"] == rows[3]["x0_loss_0.5"] and repeated[3]["fid"] == rows[3]["fid"]


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="there is no bank 'x'"):
        study(tmp_path, variants={"a": {"bank": "x"}})
    with pytest.raises(UserError, match=r"variants\.a\.shown must be two shares"):
        study(tmp_path, variants={"a": {"bank": "noisy", "shown": [0.5, 0.5]}})
    with pytest.raises(UserError, match="shown is for a variant with a bank and of form conditional"):
        study(tmp_path, variants={"a": {"bank": "noisy", "shown": [0, 0.5], "conditioning": {"form": "shifted"}}})
    for draws, per_image in ((6, 4), (8, 1), (0, 2)):
        with pytest.raises(UserError, match=f"draws must be a multiple of per_image.* got {draws} and {per_image}"):
            study(tmp_path, draws=draws, per_image=per_image)
    with pytest.raises(UserError, match="has no option 'stepz'"):
        study(tmp_path, stepz=3)


def test_a_conditioning_image_that_is_shown_for_a_while(tmp_path):
    """Until it is hidden the training is that of a variant that sees it throughout, afterwards another."""
    shown = {"images": 40, "bank": "noisy"}
    variants = {"always": shown, "at_first": {**shown, "shown": [0.0, 0.5]}, "at_last": {**shown, "shown": [0.5, 1.0]}}
    rows = run_study(study(tmp_path, variants=variants, steps_to_draw=[2]), tmp_path, say=lambda text, flush: None)
    found = {(r["variant"], r["step"]): r for r in rows}
    assert found["always", 2]["x0_loss_0.5"] == found["at_first", 2]["x0_loss_0.5"]
    assert found["always", 4]["x0_loss_0.5"] != found["at_first", 4]["x0_loss_0.5"]
    assert found["at_first", 2]["x0_loss_0.5"] != found["at_last", 2]["x0_loss_0.5"]
    assert all(("fid_2_steps" in r) == (r["step"] == 4) for r in rows)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "configs/studies").glob("dip_in_training*.yaml")), ids=lambda p: p.stem)
def test_every_network_of_a_shipped_study_fits_and_every_variant_trains(path, tmp_path):
    """As it ships but for the data, photographs, the steps and the iterations of the banks."""
    content = read_yaml(path)
    for name, bank in content["banks"].items():
        bank["path"] = str(tmp_path / f"{name}.safetensors")
        options = bank["method"].get("init_args") if isinstance(bank["method"], dict) else None
        if options:
            options["iterations"] = options["stopping"]["init_args"]["iterations"] = 2
    for variant in content["variants"].values():
        for option in ("steps", "at"):
            variant.pop(option, None)
        variant["images"] = 6
    small = {"steps": 2, "at": [2], "draws": 12, "sampling_steps": 2, "seeds": [0], "batch_size": 4}
    grey = {"mode": "grey", "size": 28, "validation": 4}
    small |= {"data": {"class_path": "datamodules.natural_images.NaturalImages", "init_args": grey}}
    small |= {"features": {"class_path": "tests.evaluation.toys.Corners"}}
    small |= {"steps_to_draw": [2]} if "steps_to_draw" in content else {}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**content, **small}, sort_keys=False))
    rows = run_study(read_study(tmp_path / "study.yaml"), tmp_path, say=lambda text, flush: None)
    assert [r["variant"] for r in rows] == list(content["variants"]) and all(r["fid"] == r["fid"] for r in rows)


def test_the_shipped_study_is_the_shipped_training():
    shipped = read_study(ROOT / "configs/studies/dip_in_training.yaml")
    training = read_yaml(ROOT / "configs/train/ddpm_fashion_mnist_guided.yaml")["model"]["init_args"]["bank"][
        "init_args"
    ]
    assert shipped.banks["dip"] == training
