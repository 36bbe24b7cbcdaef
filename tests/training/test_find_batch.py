"""The largest share of a batch that fits, with a memory that is made small, and the run that the options give."""

import csv

import pytest
import torch
from helpers import ROOT, call, one_sentence, tiny_config, write_config

from lightning_modules.ddpm import DDPM
from training.sharded_strategy import is_sharding


@pytest.fixture
def room(monkeypatch):
    """Room for so many images at once; what was asked for."""
    inner, asked = DDPM.losses, []

    def set_room(count: int) -> list[int]:
        def losses(self, batch, generator):
            asked.append(len(batch.image))
            if len(batch.image) > count:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return inner(self, batch, generator)

        monkeypatch.setattr(DDPM, "losses", losses)
        return asked

    return set_room


def found(config, tmp_path, *options):
    return call("train.py", "fit", "--config", config, "--run", tmp_path / "run", "--find_batch", *options)


def test_the_options_keep_the_images_of_a_step(room, tmp_path):
    config, asked = write_config(tmp_path, tiny_config(max_steps=3)), room(5)
    result = found(config, tmp_path, "--trainer.precision", "bf16-mixed")
    assert result.returncode == 0 and not (tmp_path / "run").exists(), result.stderr
    assert asked == [16, 8, 4, 4]  # two steps with what fits
    said = result.stdout.splitlines()
    assert "of a batch of 16 images, 4 at once fit this cpu" in said[-2]
    options = "--data.batch_size 4 --trainer.accumulate_grad_batches 4 --trainer.val_check_interval 16"
    assert said[-1] == options
    result = call("train.py", "fit", "--config", config, "--run", tmp_path / "run", *options.split())
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["images"]) for r in rows if r["train/loss"]] == [16, 32, 48]


def test_what_fits_changes_nothing_and_processes_share(room, tmp_path):
    config, asked = write_config(tmp_path, tiny_config()), room(2)
    result = found(config, tmp_path, "--trainer.devices", 4, "--trainer.num_nodes", 2)
    assert result.returncode == 0 and asked == [2, 2], result.stderr
    assert "16 images, 2 on each of 8 processes fits this cpu: change nothing" in result.stdout
    assert "sharded" not in result.stdout


def test_a_network_that_is_to_be_sharded_is_tried_whole_and_that_is_said(room, tmp_path):
    config, asked = write_config(tmp_path, tiny_config()), room(2)
    words = ["--config", ROOT / "configs/cluster/fsdp.yaml", "--trainer.devices", 4]
    result = found(config, tmp_path, *words)
    assert result.returncode == 0 and asked == [4, 2, 2], result.stderr
    assert "tried with the whole network on one device: sharded over 4 processes, more may fit" in result.stdout
    assert "of a batch of 16 images, 4 on each of 4 processes, 2 at once fit this cpu" in result.stdout
    room(0)
    result = found(config, tmp_path, *words)
    one_sentence(result, "--find_batch", "whole network", "sharded over 4 processes", "--data.batch_size 4")


def test_a_strategy_that_shards_is_known_by_name_and_by_class():
    assert is_sharding("sharded") and is_sharding({"class_path": "training.sharded_strategy.Sharded", "init_args": {}})
    assert not any(map(is_sharding, ("ddp", "auto", {"class_path": "lightning.pytorch.strategies.DDPStrategy"}, None)))


def test_what_fits_nowhere_is_refused(room, tmp_path):
    config, _ = write_config(tmp_path, tiny_config()), room(0)
    one_sentence(found(config, tmp_path), "--find_batch", "not even one image", "checkpoint_gradients")


def test_a_deep_image_prior_has_no_batch(tmp_path):
    result = found(ROOT / "configs/train/dip_digits.yaml", tmp_path, "--trainer.accelerator", "cpu")
    one_sentence(result, "--find_batch", "DeepImagePrior")
