import errno
import fcntl
import os

import pytest

from common.errors import UserError
from common.run_folder import PREEMPTED, RunFolder, is_first_process


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
    assert RunFolder(tmp_path).finished() == {"step": 7, "images": 70, "max_epochs": 2, "complete": False}


def test_a_run_that_a_mistake_ended_before_its_first_checkpoint_may_be_corrected(tmp_path):
    RunFolder(tmp_path).open(CONFIG)
    RunFolder(tmp_path).open({**CONFIG, "model": {"learning_rate": 0.2}})
    assert "0.2" in RunFolder(tmp_path).config_file.read_text()


def test_a_checkpoint_without_its_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        RunFolder(trained(tmp_path)).open(CONFIG)


@pytest.mark.parametrize("content", [b"", b"[1, 2", b"words", b"\xff\xfe"])
def test_a_damaged_config_is_one_sentence(content, tmp_path):
    """Not the trace of a parser that is given no mapping."""
    (trained(tmp_path) / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml' holds no config.*give another --run, or put back the file"):
        RunFolder(tmp_path, complete=lambda stored: {**stored}).compare(CONFIG)


def test_a_file_system_without_locks_is_said_and_a_folder_in_use_refused(tmp_path, monkeypatch, capsys):
    def flock(number: int):
        def refuse(file, operation):
            raise OSError(number, os.strerror(number))  # Python makes a BlockingIOError of EAGAIN

        return refuse

    for number in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
        monkeypatch.setattr(fcntl, "flock", flock(number))
        RunFolder(tmp_path).open(CONFIG)
        assert "has no locks" in capsys.readouterr().out
    monkeypatch.setattr(fcntl, "flock", flock(errno.EAGAIN))
    with pytest.raises(UserError, match="in use by another process"):
        RunFolder(tmp_path).open(CONFIG)


def test_options_that_the_code_has_had_since_do_not_stop_an_older_run(tmp_path):
    RunFolder(tmp_path).open(CONFIG)
    trained(tmp_path)
    now = {**CONFIG, "model": {"learning_rate": 0.1, "new": 3}}
    with pytest.raises(UserError, match=r"model.new: None there, 3 now"):
        RunFolder(tmp_path).compare(now)
    RunFolder(tmp_path, complete=lambda stored: {**stored, "model": {"new": 3, **stored["model"]}}).compare(now)


def test_the_mark_of_a_stop_is_gone_when_the_run_goes_on(tmp_path):
    (tmp_path / PREEMPTED).write_text("{}")
    RunFolder(tmp_path).open(CONFIG)
    assert not (tmp_path / PREEMPTED).exists()


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),  # started by Lightning
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # started by Lightning inside a batch script
        ({"SLURM_PROCID": "3"}, False),
        # torchrun gives its own numbers to the tasks of SLURM
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0", "SLURM_PROCID": "0"}, False),
    ],
)
def test_one_process_is_the_first_under_every_launcher(environment, first, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first
