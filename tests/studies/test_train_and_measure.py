"""The script that trains, draws and measures: the shipped GPU configs at a tiny size on the CPU, and its table."""

import re

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from datamodules.cifar10 import CLASSES
from studies import train_and_measure
from studies.train_and_measure import forwarded, main, table


def test_options_go_to_their_program():
    words = ["--train.model.compile=false", "--evaluate.num_images=40", "--train.trainer.max_steps=2"]
    assert forwarded(words) == (["--model.compile=false", "--trainer.max_steps=2"], ["--num_images=40"])
    for word in ("--model.compile=false", "--train.model.compile", "false"):
        with pytest.raises(UserError, match=r"unknown option.*--train\.OPTION=VALUE"):
            forwarded([word])


def test_the_table_has_a_line_for_each_sampler():
    row = {"sampler": "heun", "steps": "18", "nfe": "35", "images": "1000", "images_per_second": "12.34"}
    rows = [
        {**row, "metric": "fid", "value": "3.14159", "ci_low": "3", "ci_high": "3.3"},
        {**row, "metric": "kid", "value": "0.002", "ci_low": "", "ci_high": ""},
        {**row, "metric": "fid", "value": "2.5", "ci_low": "2", "ci_high": "3", "sampler": "real images", "steps": ""},
    ]
    head, _, first, real = table(rows)
    assert head == "| sampler | steps | calls | images | fid | kid | images/s |"
    assert first == "| heun | 18 | 35 | 1000 | 3.142 [3, 3.3] | 0.002 | 12.3 |"
    assert real.startswith("| real images |") and "2.5 [2, 3] |  |" in real


@pytest.mark.parametrize(
    ("words", "match"),
    [(["--train", "no.yaml"], "no file at 'no.yaml'"), (["--evaluate", "no.yaml"], "no file at"), (["-x"], "unknown")],
)
def test_mistakes_are_said_before_anything_runs(words, match, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["train_and_measure", "--output", str(tmp_path / "out"), *words])
    monkeypatch.setattr(train_and_measure, "run", lambda words: pytest.fail("it ran"))
    with pytest.raises(UserError, match=match):
        main()


@pytest.mark.slow
def test_the_gpu_configs_run_at_a_tiny_size_on_the_cpu(monkeypatch, tmp_path, capfd):
    pixels = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 1)):
        for label in CLASSES:
            (tmp_path / "data/cifar10" / part / label).mkdir(parents=True)
            for k in range(count):
                image = Image.fromarray(pixels.integers(256, size=(32, 32, 3), dtype=np.uint8))
                image.save(tmp_path / f"data/cifar10/{part}/{label}/{k}.png")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    of_train = {
        "model.network.channels": 8,
        "model.network.groups": 4,
        "model.compile": "false",  # minutes on a CPU
        "model.sampling_steps": 18,
        "data.batch_size": 8,
        "data.validation": 8,
        "trainer.max_time": "00:00:00:02",  # of which it makes at least one step
        "trainer.precision": "32-true",
        "trainer.log_every_n_steps": 1,
        "samples.count": 1,
    }
    of_evaluate = {"num_images": 20, "batch_size": 10, "samplers.heun": "null", "samplers.dpm_solver_pp.steps": "[2]"}
    words = [f"--train.{k}={v}" for k, v in of_train.items()] + [f"--evaluate.{k}={v}" for k, v in of_evaluate.items()]
    monkeypatch.setattr("sys.argv", ["train_and_measure", "--output", str(tmp_path / "out"), *words])
    main()
    text = (tmp_path / "out/table.md").read_text()
    steps = re.search(r"Training: (\d+) steps, (\d+) images; last logged throughput/images_per_second", text)
    assert steps is not None and 0 < 8 * int(steps[1]) == int(steps[2])
    assert "| dpm_solver_pp | 2 | 2" in text and "| real images |" in text and "torch" in text
    assert "time  noise   RMSE" in text  # of the check of one call
    ran = []
    monkeypatch.setattr(train_and_measure, "run", lambda words: ran.append(words[0]) or "again")
    main()  # the same command again trains nothing
    assert ran == ["evaluate.py", "-m"]
    assert "again" in capfd.readouterr().out
