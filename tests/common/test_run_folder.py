import pytest

from common.errors import UserError
from common.run_folder import RunFolder


def trained(path):
    """A run folder that has a checkpoint."""
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    (path / "checkpoints" / "last.ckpt").write_bytes(b"")
    return path


CONFIG = {"model": {"learning_rate": 0.1}, "trainer": {"max_steps": 5, "devices": 1}, "run": None}


def test_the_same_config_goes_on_and_another_is_refused_with_the_difference(tmp_path):
    RunFolder(tmp_path).open(CONFIG)
    trained(tmp_path)
    RunFolder(tmp_path).open(CONFIG)
    with pytest.raises(UserError, match=r"model.learning_rate: 0.1 there, 0.2 now"):
        RunFolder(tmp_path).open({**CONFIG, "model": {"learning_rate": 0.2}})


def test_length_and_devices_may_change(tmp_path):
    RunFolder(tmp_path).open(CONFIG)
    trained(tmp_path)
    RunFolder(tmp_path).open({**CONFIG, "trainer": {"max_steps": 9, "devices": 4}, "run": "elsewhere"})


def test_one_process_at_a_time(tmp_path):
    first = RunFolder(tmp_path)
    first.open(CONFIG)
    with pytest.raises(UserError, match="in use"):
        RunFolder(tmp_path).open(CONFIG)


def test_the_wandb_id_is_made_once(tmp_path):
    identity = RunFolder(tmp_path).wandb_id()
    assert len(identity) == 8 and RunFolder(tmp_path).wandb_id() == identity


def test_the_end_is_remembered(tmp_path):
    assert RunFolder(tmp_path).finished() is None
    RunFolder(tmp_path).mark_finished(step=7, images=70, max_epochs=2)
    assert RunFolder(tmp_path).finished() == {"step": 7, "images": 70, "max_epochs": 2}


def test_a_run_that_a_mistake_ended_before_its_first_checkpoint_may_be_corrected(tmp_path):
    RunFolder(tmp_path).open(CONFIG)
    RunFolder(tmp_path).open({**CONFIG, "model": {"learning_rate": 0.2}})
    assert "0.2" in RunFolder(tmp_path).config_file.read_text()


def test_a_checkpoint_without_its_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        RunFolder(trained(tmp_path)).open(CONFIG)
