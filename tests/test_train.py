"""train.py as a user calls it: continues, survives signals, works on two processes, refuses in one sentence."""

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from helpers import ROOT, call, call_and_stop, call_process, environment, one_sentence, tiny_config, write_config

from checkpoints.load import load_prior


def fit(config: Path, run: Path, *options: object, by=call, **kwargs: object):
    return by("train.py", "fit", "--config", config, "--run", run, *options, **kwargs)


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def same_weights(a: dict, b: dict) -> None:
    for key in ("state_dict",):
        for name, value in a[key].items():
            assert torch.equal(value, b[key][name]), name
    for name, value in a["ema"]["weights"].items():
        assert torch.equal(value, b["ema"]["weights"][name]), name


def steps(run: Path) -> list[int]:
    with open(run / "metrics.csv") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """(config, run folder) of an uninterrupted run of 8 steps, in the middle of its second epoch of 6."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, tiny_config())
    result = fit(config, folder / "run")
    assert result.returncode == 0, result.stderr[-3000:]
    return config, folder / "run"


def test_a_run_writes_what_the_design_says(whole):
    _, run = whole
    assert {"config.yaml", "checkpoints", "metrics.csv", "samples", "finished.json"} <= {p.name for p in run.iterdir()}
    assert sorted(p.name for p in (run / "samples").iterdir()) == ["step_0000004.png", "step_0000008.png"]
    content = checkpoint(run)
    assert content["images_seen"] == 8 * 16 and content["global_step"] == 8
    assert content["prior"]["network"]["class_path"] == "networks.unet.UNet"
    assert steps(run) == list(range(8))
    with open(run / "metrics.csv") as file:
        last = list(csv.DictReader(file))
    assert any(row["val/loss"] for row in last) and any(row["val/loss_t000-199"] for row in last)
    assert [float(r["images"]) for r in last if r["images"]] == [16.0 * k for k in range(1, 9)]


def test_average_and_raw_weights_differ_and_load(whole):
    _, run = whole
    path = run / "checkpoints" / "last.ckpt"
    ema, raw = load_prior(path, weights="ema"), load_prior(path, weights="raw")
    difference = [
        (a - b).abs().max() for a, b in zip(ema.denoiser.parameters(), raw.denoiser.parameters(), strict=True)
    ]
    assert max(difference) > 0
    assert ema.fingerprint != raw.fingerprint


def test_five_steps_and_three_equal_eight(whole, tmp_path):
    """Weights, average, optimiser, order of images, noise and dropout continue: bit for bit on one process."""
    config, run = whole
    assert fit(config, tmp_path / "run", "--trainer.max_steps", 5).returncode == 0
    result = fit(config, tmp_path / "run")
    assert result.returncode == 0 and "at step 5" in result.stdout, result.stdout + result.stderr[-2000:]
    same_weights(checkpoint(run), checkpoint(tmp_path / "run"))
    assert steps(tmp_path / "run") == list(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on(number, tmp_path):
    config = write_config(tmp_path, tiny_config(max_steps=60, val_check_interval=20))
    run = tmp_path / "run"
    code = call_and_stop(
        number, "train.py", "fit", "--config", config, "--run", run, ready=run / "checkpoints" / "last.ckpt"
    )
    assert code == (75 if number == signal.SIGTERM else -signal.SIGKILL)
    stopped_at = checkpoint(run)["global_step"]
    assert 0 < stopped_at < 60
    result = fit(config, run)
    assert result.returncode == 0, result.stderr[-3000:]
    assert f"at step {stopped_at}" in result.stdout
    assert fit(config, tmp_path / "whole").returncode == 0
    same_weights(checkpoint(tmp_path / "whole"), checkpoint(run))
    assert steps(run) == list(range(60))


def test_a_finished_run_says_so(whole):
    config, run = whole
    before = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    result = fit(config, run)
    assert result.returncode == 0 and "is finished: 8 steps" in result.stdout
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_another_config_is_refused_with_the_difference(whole):
    config, run = whole
    one_sentence(fit(config, run, "--model.learning_rate", "0.5"), "learning_rate", "0.5", "--run")


@pytest.mark.slow
def test_two_processes_train_the_same_model_stopped_or_not(tmp_path):
    """batch_size 16 is 8 images on each of two processes: the same batches and noise, so the same weights up to the
    order of sums (no dropout).

    8 steps against 5, SIGTERM to the second process, and 3: equal bit for bit.
    """
    config = tiny_config(max_steps=8, val_check_interval=4)
    config["model"]["init_args"]["network"]["init_args"]["dropout"] = 0.0
    config["preemption"] = {"every_n_steps": 1}
    path = write_config(tmp_path, config)
    two = ["--trainer.devices", 2, "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp"]
    assert fit(path, tmp_path / "one").returncode == 0
    result = fit(path, tmp_path / "two", *two, by=call_process, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    a, b = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    assert a["images_seen"] == b["images_seen"] == 128
    for name, value in a["ema"]["weights"].items():
        torch.testing.assert_close(value, b["ema"]["weights"][name], atol=1e-5, rtol=0, msg=name)

    def validation(run: Path) -> list[float]:
        with open(run / "metrics.csv") as file:
            return [float(r["val/loss"]) for r in csv.DictReader(file) if r["val/loss"]]

    assert validation(tmp_path / "two") == pytest.approx(validation(tmp_path / "one"), abs=1e-4)

    config["trainer"]["callbacks"] = [{"class_path": "cluster.kill_at.KillAt", "init_args": {"step": 5, "rank": 1}}]
    (tmp_path / "killed").mkdir()
    killed = write_config(tmp_path / "killed", config)
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    result = fit(killed, tmp_path / "stopped", *two, by=call_process, env=env, timeout=600)
    assert result.returncode == 75 and checkpoint(tmp_path / "stopped")["global_step"] == 5, (
        result.stdout + result.stderr[-3000:]
    )
    result = fit(killed, tmp_path / "stopped", *two, by=call_process, env=env, timeout=600)
    assert result.returncode == 0 and "at step 5" in result.stdout, result.stdout + result.stderr[-3000:]
    c = checkpoint(tmp_path / "stopped")
    assert c["global_step"] == 8 and c["images_seen"] == 128
    same_weights(b, c)


def test_predict_draws_the_same_images_for_any_batch_size(whole, tmp_path):
    config, run = whole
    for name, size in (("a", 16), ("b", 2)):
        result = call(
            "train.py",
            "predict",
            "--config",
            config,
            "--ckpt_path",
            run / "checkpoints" / "last.ckpt",
            "--num_images",
            5,
            "--output",
            tmp_path / name,
            "--data.batch_size",
            size,
        )
        assert result.returncode == 0, result.stderr[-3000:]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [*(f"{k:06d}.png" for k in range(5)), "grid.png"]
    for k in range(5):
        assert (tmp_path / "a" / f"{k:06d}.png").read_bytes() == (tmp_path / "b" / f"{k:06d}.png").read_bytes()


@pytest.mark.slow
def test_wandb_offline_keeps_its_id(tmp_path):
    config = tiny_config(max_steps=2, val_check_interval=2)
    config["wandb"] = {"mode": "offline", "group": "tests"}
    path = write_config(tmp_path, config)
    run = tmp_path / "run"
    assert fit(path, run, by=call_process).returncode == 0  # W&B's own processes remember the runs of this one
    assert fit(path, run, "--trainer.max_steps", 4, by=call_process).returncode == 0
    folders = list((run / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and {f.name.rsplit("-", 1)[1] for f in folders} == {(run / "wandb_id").read_text().strip()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.learning_rte", "0.1"], ["learning_rte"]),
        (["--trainer.max_step", "3"], ["max_step"]),
        (["--model.learning_rate", "fast"], ["learning_rate", "fast"]),
        (["--model.network.class_path", "networks.unet.Unet"], ["Unet"]),
        (["--model.data_shape", "[1, 9, 9]"], ["data_shape", "[1, 9, 9]", "[1, 8, 8]"]),
        (["--model.data_shape", "[3, 8, 8]"], ["1 input channels", "data_shape", "in_channels to 3"]),
        (
            [
                "--data",
                "{class_path: datamodules.mnist.MNIST, init_args: {data_dir: /nowhere, download: false}}",
                "--model.data_shape",
                "[1, 28, 28]",
            ],
            ["/nowhere", "MNIST"],
        ),
        (["--model.learning_rate", "1e30", "--trainer.gradient_clip_val", "null"], ["training loss", "learning_rate"]),
        (["--ckpt_path", "x.ckpt"], ["ckpt_path", "--run"]),
    ],
)
def test_a_mistake_is_one_sentence(options, words, tmp_path):
    config = write_config(tmp_path, tiny_config(max_steps=40))
    one_sentence(fit(config, tmp_path / "run", *options), *words)


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_leaves_the_last_good_checkpoint(tmp_path):
    config = write_config(tmp_path, tiny_config(max_steps=4))
    run = tmp_path / "run"
    assert fit(config, run).returncode == 0
    stored = yaml.safe_load((run / "config.yaml").read_text())
    stored["model"]["init_args"]["learning_rate"] = 1e30
    stored["trainer"] |= {"gradient_clip_val": None, "max_steps": 50}
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    result = fit(
        config, run, "--model.learning_rate", "1e30", "--trainer.gradient_clip_val", "null", "--trainer.max_steps", 50
    )
    # The learning rate of a continued run is that of its optimiser state, which is the good one: only a poisoned state
    # diverges.
    assert result.returncode in (0, 2)
    load_prior(run / "checkpoints" / "last.ckpt")


def test_files_that_are_not_checkpoints(tmp_path, whole):
    config, _ = whole
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.ckpt")
    for name, word in (("missing.ckpt", "no prior at"), ("text.ckpt", "text.ckpt"), ("foreign.ckpt", "foreign.ckpt")):
        one_sentence(
            call("train.py", "predict", "--config", config, "--ckpt_path", tmp_path / name, "--output", tmp_path / "o"),
            word,
        )


@pytest.mark.slow
def test_a_prior_of_another_config_is_refused_and_a_released_one_draws_without_data(whole, tmp_path):
    config, run = whole
    asset = ROOT / "assets/ddpm_mnist.safetensors"
    last = run / "checkpoints" / "last.ckpt"
    for path, options in (
        (asset, []),
        (last, ["--model.prediction", "epsilon"]),
        (last, ["--model.network.groups", "2"]),
    ):
        result = call(
            "train.py", "predict", "--config", config, "--ckpt_path", path, "--output", tmp_path / "o", *options
        )
        one_sentence(result, path.name, "another", "there")
    result = call(
        "train.py",
        "predict",
        "--config",
        "configs/train/ddpm_mnist.yaml",
        "--ckpt_path",
        asset,
        "--num_images",
        2,
        "--output",
        tmp_path / "digits",
        "--data.data_dir",
        "/nowhere",
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(list((tmp_path / "digits").glob("0*.png"))) == 2


def test_a_run_folder_in_use_is_refused(whole, tmp_path):
    import fcntl

    config, _ = whole
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one_sentence(fit(config, tmp_path / "run"), "in use")


def test_a_run_folder_that_cannot_be_written(whole, tmp_path):
    config, _ = whole
    (tmp_path / "file").write_text("")
    one_sentence(fit(config, tmp_path / "file" / "run"), "cannot be written")


def test_help_of_every_subcommand():
    for sub in ("fit", "predict"):
        result = call("train.py", sub, "--help", cwd=ROOT)
        assert result.returncode == 0 and "--run" in result.stdout


@pytest.mark.slow
def test_a_restorer_is_trained_continued_and_drawn_from(tmp_path):
    """Cold diffusion through the same commands; what its start learnt from the training images comes back from the
    checkpoint, without them.
    """
    config = tiny_config(max_steps=3, val_check_interval=3)
    options = config["model"]["init_args"]
    config["model"] = {
        "class_path": "lightning_modules.cold_diffusion.ColdDiffusion",
        "init_args": {
            "data_shape": [1, 8, 8],
            "network": options["network"],
            "family": {
                "class_path": "degradations.severity.gaussian_blur.GaussianBlur",
                "init_args": {"steps": 8, "taps": 5, "std": 2.0, "to_mean": True},
            },
            "start": {"class_path": "diffusion.cold_starts.constant_colour.ConstantColour"},
            "warmup_steps": 2,
        },
    }
    path, run = write_config(tmp_path, config), tmp_path / "run"
    assert fit(path, run).returncode == 0
    result = fit(path, run, "--trainer.max_steps", 6)
    assert result.returncode == 0 and "at step 3" in result.stdout, result.stderr[-3000:]
    assert (run / "samples" / "step_0000006.png").exists()
    result = call(
        "train.py",
        "predict",
        "--config",
        path,
        "--run",
        run,
        "--num_images",
        5,
        env={**environment(), "DATA_DIR": str(tmp_path / "nothing")},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(list((run / "images").glob("0*.png"))) == 5 and (run / "images" / "grid.png").exists()
    one_sentence(
        call("train.py", "predict", "--config", path, "--run", run, "--model.family.init_args.steps", 9),
        "another family",
        "steps: 8 there, 9 here",
    )
    one_sentence(
        call("train.py", "predict", "--config", path, "--run", run, "--model.start", "null"), "does not generate"
    )
    result = call("train.py", "validate", "--config", path, "--run", run)
    assert result.returncode == 0 and "val/loss_s001-002" in result.stdout, result.stderr[-3000:]
    exported = tmp_path / "released.safetensors"
    assert call("-m", "checkpoints.export", run / "checkpoints" / "last.ckpt", exported).returncode == 0
    result = call(
        "train.py",
        "predict",
        "--config",
        path,
        "--run",
        run,
        "--ckpt_path",
        exported,
        "--num_images",
        2,
        "--output",
        tmp_path / "drawn",
    )
    assert result.returncode == 0 and (tmp_path / "drawn" / "000001.png").exists(), result.stderr[-3000:]
