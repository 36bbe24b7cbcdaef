"""The parser of train.py takes the names of earlier versions: in a config, among the words, in a stored run."""

import pytest
import yaml
from helpers import call, tiny_config, write_config

from common import renamed

OLD, NEW = "datamodules.figures.Digits", "datamodules.digits.Digits"


@pytest.fixture(autouse=True)
def a_module_that_moved(monkeypatch):
    monkeypatch.setitem(renamed.MODULES, "datamodules.figures", "datamodules.digits")
    monkeypatch.setattr(renamed, "_warned", set())


def test_a_config_a_word_and_a_stored_run_of_before(tmp_path):
    """Trained with the old name in the config, continued where the stored config has it; the new name is said once, and
    Lightning does not complain of a command line that is given twice.
    """
    config = tiny_config(max_steps=1, val_check_interval=1)
    config["data"]["class_path"] = OLD
    path, run = write_config(tmp_path, config), tmp_path / "run"
    result = call("train.py", "fit", "--config", path, "--run", run)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "'datamodules.figures.Digits' is called 'datamodules.digits.Digits' now" in result.stderr
    assert "provide both args and command line" not in result.stderr
    stored = run / "config.yaml"
    assert yaml.safe_load(stored.read_text())["data"]["class_path"] == NEW
    stored.write_text(stored.read_text().replace(NEW, OLD))
    result = call("train.py", "fit", "--config", path, "--run", run, "--trainer.max_steps", 2)
    assert result.returncode == 0 and "at step 1" in result.stdout, result.stderr[-2000:]
    result = call("train.py", "fit", "--config", path, "--run", run, "--data.class_path", OLD, "--trainer.max_steps", 3)
    assert result.returncode == 0 and "at step 2" in result.stdout, result.stderr[-2000:]
