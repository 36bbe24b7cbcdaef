"""The command that computes a bank, on embedded digits."""

import sys

import pytest
import torch

from common.errors import UserError
from studies.dip_bank import compute, main

CONFIG = {
    "model": {
        "class_path": "lightning_modules.image_conditioned_ddpm.ImageConditionedDDPM",
        "init_args": {
            "bank": {
                "class_path": "restoration.conditioning_bank.ConditioningBank",
                "init_args": {"method": "restoration.degraded.Degraded"},
            }
        },
    },
    "data": {"class_path": "datamodules.digits.Digits", "init_args": {"limit": 40, "validation": 20}},
}


def test_it_computes_what_the_training_needs_once(tmp_path):
    config = {
        **CONFIG,
        "model": {
            "init_args": {
                "bank": {
                    "init_args": {**CONFIG["model"]["init_args"]["bank"]["init_args"], "path": str(tmp_path / "b")}
                }
            }
        },
    }
    said = []
    bank = compute(config, "test", say=lambda text, flush: said.append(text))
    assert bank.conditioning_images(torch.arange(0)).image.shape[0] == 0 and len(bank._images) == 60
    assert (
        any(line.startswith("train: PSNR of the first 40 conditioning images") for line in said)
        and "residual_std" in said[1]
    )
    before = (tmp_path / "b").stat().st_mtime_ns
    compute(config, "test", say=lambda text, flush: None)
    assert (tmp_path / "b").stat().st_mtime_ns == before


def test_a_configuration_without_a_bank(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text("data: {class_path: datamodules.digits.Digits}\nmodel: {class_path: lightning_modules.ddpm.DDPM}\n")
    monkeypatch.setattr(sys, "argv", ["dip_bank", "--config", str(path)])
    with pytest.raises(UserError, match="bank is missing"):
        main()
