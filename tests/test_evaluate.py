"""The command: killed and continued, two processes, mistakes."""

import csv
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import call, one_sentence

from common.errors import UserError, run_cli
from datamodules.digits import Digits
from evaluation.config import read_config
from evaluation.engine import Engine
from evaluation.rows import RowFile
from evaluation.run import Options, evaluate

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
data: {class_path: datamodules.digits.Digits}
limit: 9
batch_size: 1
tasks:
  box: {degradation: {class_path: degradations.box_mask.BoxMask, init_args: {size: 3}}, noise: {sigma_255: 6}}
methods:
  back: tests.evaluation.toys.Back
  dither: {class_path: tests.evaluation.toys.Dither, num_samples: 2}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def start(*arguments, **environment):
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "evaluate.py", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*arguments, **environment):
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def rows_of(folder):
    with open(folder / "rows.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def keys_of(folder):
    return [(r["task"], r["method"], r["image"], r["sample"]) for r in rows_of(folder)]


@pytest.mark.slow
def test_killed_and_continued_with_two_processes(config, tmp_path, monkeypatch):
    """SIGKILL after five images; then two processes, one of which is killed too; then two that end: every image once,
    as in one go.
    """
    sixth = str(int(Digits().images("test").get([5]).index))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code, _, _ = finish("--config", config, "--output", broken, TOY_KILL_AT=sixth)
    assert code == -signal.SIGKILL
    before = (broken / "rows.csv").read_text()
    restored = {p: p.stat().st_mtime_ns for p in (broken / "restored").rglob("*.png")}
    assert 4 <= before.count("\n") - 1 <= 5
    with open(broken / "rows.csv", "a") as file:
        file.write("box,back,000")  # as if torn

    asked = read_config([config])
    monkeypatch.setenv("TOY_KILL_AT", sixth)
    with pytest.raises(UserError, match=r"worker [01] was ended by signal 9 \(SIGKILL\).*run the same command again"):
        evaluate(asked, Options(output=broken, devices=2))
    monkeypatch.delenv("TOY_KILL_AT")
    evaluate(asked, Options(output=broken, devices=2))
    evaluate(asked, Options(output=whole))
    assert keys_of(broken) == keys_of(whole)
    assert len(set(keys_of(whole))) == len(keys_of(whole)) == 27
    for a, b in zip(rows_of(whole), rows_of(broken), strict=True):
        assert abs(float(a["psnr"]) - float(b["psnr"])) < 1e-3
        assert a["fingerprint"] == b["fingerprint"]
    for row in before.splitlines()[1:]:
        path = broken / "restored" / "box" / "back" / f"{row.split(',')[2]}_0.png"
        assert path.stat().st_mtime_ns == restored[path]  # not restored again
    assert not list(broken.glob("rows.*.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_keeps_what_is_done(number, config, tmp_path):
    process = start("--config", config, "--output", tmp_path / "out", "--methods.back.init_args.seconds=0.3")
    rows = tmp_path / "out" / "rows.csv"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (rows.exists() and rows.read_text().count("\n") > 2):
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again" in err and "Traceback" not in err
    assert rows.read_text().endswith("\n")
    assert 2 <= len(keys_of(tmp_path / "out")) < 9


@pytest.mark.parametrize(("owner", "name"), [(Engine, "_write"), (RowFile, "close")])
def test_a_folder_that_is_removed_in_mid_run_is_an_error(owner, name, config, tmp_path, monkeypatch):
    """While rows are written, and after the last one; the same command again makes what is lost."""
    out, whole = tmp_path / "out", getattr(owner, name)

    def removed(*args):
        shutil.rmtree(out, ignore_errors=True)
        return whole(*args)

    monkeypatch.setattr(owner, name, removed)
    with pytest.raises(UserError, match=r"leave --output alone while an evaluation runs"):
        evaluate(read_config([config]), Options(output=out))
    assert not (out / "table.csv").exists()
    monkeypatch.undo()
    out.mkdir(exist_ok=True)
    (out / ".rows.csv.12.part").write_text("of a killed writer")
    evaluate(read_config([config]), Options(output=out))
    assert len(rows_of(out)) == 27 and not list(out.glob("**/.*.part"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config is missing"),
        (["--config", "no.yaml"], "--config 'no.yaml' does not exist"),
        (["--config", "CONFIG", "--ouput=x"], "there is no option --ouput (did you mean '--output'?)"),
        (["--config", "CONFIG", "--limit", "0"], "must be a whole number of at least 1"),
        (["--config", "CONFIG", "--methods.back.init_args.gian=1"], "Back has no option 'gian' (did you mean 'gain'?)"),
        (["--config", "CONFIG", "--tasks.box.degradation.init_args.size=12"], "1 of"),
    ],
)
def test_mistakes_are_one_sentence(config, tmp_path, arguments, message, monkeypatch, capsys):
    command = importlib.import_module("evaluate")
    arguments = [str(config) if a == "CONFIG" else a for a in arguments]
    monkeypatch.setattr(
        sys, "argv", ["evaluate.py", *arguments, *(["--output", str(tmp_path / "out")] if arguments else [])]
    )
    with pytest.raises(SystemExit) as ended:
        run_cli(command.main)
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert message.replace("1 of", "2 of 2 cells cannot work") in err
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("error: ")


@pytest.mark.parametrize("how", [[], ["--dry_run"]])
def test_a_warning_is_one_line_of_words(how, config, tmp_path):
    """Without the place in the source, whether something is restored or only timed."""
    words = ["--config", config, "--limit", "2", "--methods.dither=null", "--output", tmp_path / "out"]
    result = call("evaluate.py", *words, "--methods.back=tests.evaluation.toys.Wordy", *how)
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stderr.splitlines() if "a word" in line] == ["warning: a word to say"]
    assert ".py:" not in result.stderr


@pytest.mark.parametrize(
    ("word", "value", "where"),
    [
        ("--tasks.box.degradation.init_args.size", "0", "--tasks.box.degradation.size: size must be at least 1"),
        ("--tasks.box.noise.sigma_255", "-1", "--tasks.box.noise.sigma_255: sigma_255 must be finite"),
        (None, None, "tasks.box.degradation.size in '{}': size must be at least 1, got -3"),
    ],
)
def test_a_mistake_is_said_with_its_key_and_file(word, value, where, config, tmp_path):
    if word is None:
        config.write_text(CONFIG.replace("size: 3", "size: -3"))
    options = [] if word is None else [f"{word}={value}"]
    result = call("evaluate.py", "--config", config, "--output", tmp_path / "out", *options)
    one_sentence(result, where.format(config))
    assert not (tmp_path / "out").exists()
