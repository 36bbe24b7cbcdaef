"""trainer.devices in every form that Lightning takes: counted as Lightning counts it, or refused in one sentence."""

import pytest
import torch
from helpers import call, one_sentence, tiny_config, write_config
from jsonargparse import Namespace
from lightning.fabric.utilities import device_parser

from common.errors import UserError
from training.checks import check_trainer_options
from training.devices import chosen_devices, processes_of
from training.find_batch import on_one_device
from training.prepare import on_this_machine

THERE = 4

#: form -> (what it chooses, how many that are of four)
FORMS = {
    "auto": (None, 4),
    -1: (None, 4),
    "-1": (None, 4),
    2: (2, 2),
    "2": (2, 2),
    " 2 ": (2, 2),
    "0,1": ([0, 1], 2),
    "1, 3": ([1, 3], 2),
    "1,": ([1], 1),
    "2,3,0": ([2, 3, 0], 3),
    (0, 1): ([0, 1], 2),
    (3,): ([3], 1),
}


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: THERE)


def options(devices, accelerator="auto"):
    devices = list(devices) if isinstance(devices, tuple) else devices
    return Namespace(devices=devices, num_nodes=3, accelerator=accelerator, strategy="ddp", precision=None)


@pytest.mark.parametrize(("form", "expected"), FORMS.items(), ids=repr)
def test_every_form_is_counted_as_lightning_counts_it(form, expected, four_gpus, monkeypatch):
    chosen, count = expected
    trainer = options(form)
    assert chosen_devices(trainer.devices) == chosen
    check_trainer_options(trainer)
    assert processes_of(trainer) == on_this_machine(options(form)) == 3 * count
    one = options(form)
    assert on_one_device(one) == 3 * count
    assert one.devices == ([chosen[0]] if isinstance(chosen, list) else 1), "the first that was asked for"
    if form != "auto":  # which Lightning replaces before
        monkeypatch.setattr(device_parser, "_get_all_available_gpus", lambda **_: list(range(THERE)))
        assert len(device_parser._parse_gpu_ids(trainer.devices, include_cuda=True)) == count


@pytest.mark.parametrize("form", [0, "0", -2, "-2", (), "two", "0;1", "0,x", "0,0", (1, 1), "-1,0", None], ids=repr)
def test_what_is_no_device_is_refused(form, four_gpus):
    with pytest.raises(UserError, match=r"--trainer\.devices must"):
        check_trainer_options(options(form))


def test_devices_that_are_not_there_are_refused(four_gpus):
    for form in ("0,4", (4,), 5, "5"):
        with pytest.raises(UserError, match="there are 4 CUDA devices here, numbered from 0"):
            check_trainer_options(options(form))


def test_all_processors_are_one_process(four_gpus):
    assert processes_of(options("auto", "cpu")) == on_one_device(options("auto", "cpu")) == 3


@pytest.mark.parametrize(("form", "flags"), [("0,1", []), ("[0,1]", ["--prepare"]), ("1,", ["--find_batch"])])
def test_a_cpu_takes_a_number_of_processes_alone(form, flags, tmp_path):
    config = write_config(tmp_path, tiny_config(max_steps=2))
    words = ["--run", tmp_path / "run", "--trainer.devices", form, *flags]
    one_sentence(call("train.py", "fit", "--config", config, *words), "--trainer.devices", "a CPU", "2")
    assert not (tmp_path / "run").exists()
