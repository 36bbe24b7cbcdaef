"""A typo in train.py's command line or files: one sentence, and neither run folder nor W&B run is left behind."""

import math

import pytest
import torch
import yaml
from helpers import call, one_sentence, tiny_config, write_config
from jsonargparse import Namespace
from PIL import Image

from common.errors import UserError
from training.checks import check_numbers, check_seeds, check_trainer_options


def fit(config, run, *options):
    return call("train.py", "fit", "--config", config, "--run", run, *options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trainer.accelerator", "gpuu"], ["trainer.accelerator", "'gpuu'", "did you mean 'gpu'"]),
        (["--trainer.devices", "-3"], ["trainer.devices", "-3"]),
        (["--seed", "-1"], ["--seed", "-1", "between 0 and"]),
        (["--seed_everything", "-1"], ["--seed_everything", "-1"]),
        (["--trainer.max_steps", "-5"], ["--trainer.max_steps", "-5", "-1 for no limit"]),
        (["--trainer.val_check_interval", "0"], ["--trainer.val_check_interval", "got 0"]),
        (["--trainer.val_check_interval", "1.5"], ["--trainer.val_check_interval", "got 1.5"]),
        (["--model.learning_rate", "-1"], ["learning_rate", "-1"]),
        (["--model.data_shape", "[1, 9, 9]"], ["data_shape", "[1, 9, 9]"]),
        (["--data.batch_size", "-1"], ["batch_size", "-1"]),
        (["--quality.features", "nowhere.ckpt", "--quality.num_images", "8"], ["nowhere.ckpt"]),
    ],
)
def test_a_typo_leaves_nothing_behind(options, words, tmp_path):
    config = tiny_config(max_steps=2)
    config["wandb"] = {"mode": "offline"}
    run = tmp_path / "run"
    one_sentence(fit(write_config(tmp_path, config), run, *options), *words)
    assert not run.exists()


@pytest.mark.parametrize("validation", [0, 1])
def test_a_folder_of_one_picture_leaves_nothing_behind(validation, tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "pictures" / "a.png")
    config = tiny_config(max_steps=2)
    options = {"folder": str(tmp_path / "pictures"), "size": 8, "mode": "grey", "batch_size": 1}
    options["validation"] = validation
    config["data"] = {"class_path": "datamodules.image_folder.ImageFolder", "init_args": options}
    one_sentence(fit(write_config(tmp_path, config), tmp_path / "run"), "has 1 picture", "test_images: 0", "pictures'")
    assert not (tmp_path / "run").exists()


def test_pictures_of_unequal_sizes_leave_nothing_behind(tmp_path):
    """Also where the one test picture has a size of its own: it is not taken for that of all."""
    (tmp_path / "pictures").mkdir()
    for k in range(4):
        Image.new("L", (8 + k, 8)).save(tmp_path / "pictures" / f"{k}.png")
    config = tiny_config(max_steps=2)
    options = {"folder": str(tmp_path / "pictures"), "mode": "grey", "batch_size": 2}
    config["data"] = {"class_path": "datamodules.image_folder.ImageFolder", "init_args": options}
    one_sentence(fit(write_config(tmp_path, config), tmp_path / "run"), "differ in size: give size and crop")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_set_is_the_set(tmp_path):
    config = write_config(tmp_path, tiny_config(max_steps=1))
    result = fit(config, tmp_path / "run", "--data.batch_size", 200)
    assert result.returncode == 0 and "finished: 1 steps, 96 images" in result.stdout, result.stderr


def test_a_missing_accelerator(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for name in ("gpu", "cuda", "mps"):
        with pytest.raises(UserError, match=f"trainer.accelerator {name}: this machine has n"):
            check_trainer_options(Namespace(accelerator=name, devices="auto"))
    check_trainer_options(Namespace(accelerator="auto", devices="auto"))
    check_trainer_options(Namespace(accelerator="cpu", devices=2, max_steps=-1, val_check_interval=0.5))


def test_half_precision_of_gpus_is_refused_on_a_cpu():
    """Lightning would train in bfloat16 instead. Where --prepare looks, GPUs need not be."""
    for precision in ("16-mixed", "16", 16):
        options = Namespace(accelerator="cpu", devices=1, precision=precision)
        with pytest.raises(UserError, match=r"a CPU would be given bfloat16 .* give 32-true, or bf16-mixed"):
            check_trainer_options(options)
    for precision in ("32-true", "bf16-mixed", None):
        check_trainer_options(Namespace(accelerator="cpu", devices=1, precision=precision))


def test_a_login_node_needs_no_gpu():
    """What it prepares runs on others."""
    for accelerator in ("gpu", "cuda", "auto"):
        for devices in ("0,1", [0, 1], -1, 8):
            options = Namespace(accelerator=accelerator, devices=devices, precision="16-mixed")
            check_trainer_options(options, here=False)
            if not torch.cuda.is_available():
                with pytest.raises(UserError, match=r"--trainer\.(accelerator|devices|precision) "):
                    check_trainer_options(options)


def test_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for devices in (3, "3", [0, 2]):
        with pytest.raises(UserError, match="there are 2 CUDA devices"):
            check_trainer_options(Namespace(accelerator="gpu", devices=devices))
    for devices in (2, "auto", [0, 1], -1):
        check_trainer_options(Namespace(accelerator="gpu", devices=devices))


def test_seeds():
    check_seeds(Namespace(seed=0, seed_everything=True))
    with pytest.raises(UserError, match="4294967296"):
        check_seeds(Namespace(seed=2**32))


@pytest.mark.parametrize("place", ["plain", "in a class", "in a list"])
def test_nan_anywhere(place):
    nan = {"rate": math.nan, "other": 1.0}
    options = {
        "plain": {"model": nan},
        "in a class": {"model": Namespace(class_path="a.B", init_args=Namespace(**nan))},
        "in a list": {"model": [{"x": 1}, nan]},
    }[place]
    with pytest.raises(UserError, match=r"--model\.(1\.)?rate is NaN"):
        check_numbers(options)
    check_numbers({"model": {"rate": math.inf}})


def test_nan_in_a_file_is_found_there(tmp_path):
    config = tiny_config(max_steps=2)
    config["model"]["init_args"]["sampler"]["init_args"] = {"eta": math.nan}
    path = write_config(tmp_path, config)
    one_sentence(fit(path, tmp_path / "run"), f"model.sampler.eta in '{path}' is NaN")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(range(256)), "not a text file"),
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"model: [1, 2\ndata: x\n", "line 2"),
        (b"- a\n", "must be a mapping"),
        (b"seed: 1\nseed: 2\n", "'seed' is given twice"),
    ],
)
@pytest.mark.parametrize("program", ["train", "evaluate", "sweep"])
def test_a_file_that_is_no_configuration(program, content, words, tmp_path):
    path = tmp_path / "it's one.yaml"  # a quote in a path belongs to it
    path.write_bytes(content)
    words_of = {
        "train": ("train.py", "fit", "--config", path),
        "evaluate": ("evaluate.py", "--config", path),
        "sweep": ("sweep.py", "list", path),
    }[program]
    one_sentence(call(*words_of), "it's one.yaml", words)


def test_a_quote_in_the_path_of_a_config(tmp_path):
    path = tmp_path / "it's one.yaml"
    path.write_text(yaml.safe_dump(tiny_config(max_steps=1)))
    assert fit(path, tmp_path / "it's a run").returncode == 0
    assert (tmp_path / "it's a run" / "finished.json").is_file()
