import json
import os
import signal

import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from callbacks.preemption import Preempted, Preemption


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_of_a_step_saves_after_it(number, code, tmp_path):
    model = tiny_module()
    inner = model.losses

    def losses(batch, generator):
        if model.global_step == 2:
            os.kill(os.getpid(), number)
        return inner(batch, generator)

    model.losses = losses
    before = signal.getsignal(number)
    with pytest.raises(Preempted) as end:
        tiny_trainer(tmp_path, EMA(), Preemption(), max_steps=6, limit_val_batches=0).fit(
            model, datamodule=tiny_digits()
        )
    assert end.value.code == code
    stored = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 3 and stored["images_seen"] == 48
    assert json.loads((tmp_path / "preempted.json").read_text()) == {"step": 3}
    assert signal.getsignal(number) == before, "the handlers of before are put back"


@pytest.mark.parametrize("part", [4, 5, 6])
def test_a_stop_inside_an_accumulation_waits_for_its_step(part, tmp_path):
    """A checkpoint holds no gradients: 6 steps of two parts each, stopped in either part, end with the weights of a run
    that was never stopped.
    """

    def train(folder, stop_at: int | None = None, ckpt_path=None):
        model, parts = tiny_module(), []
        inner = model.losses

        def losses(batch, generator):
            parts.append(len(batch.image))
            if len(parts) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return inner(batch, generator)

        model.losses = losses
        trainer = tiny_trainer(folder, EMA(), Preemption(), max_steps=6, limit_val_batches=0, accumulate_grad_batches=2)
        trainer.fit(model, datamodule=tiny_digits(), ckpt_path=ckpt_path)
        return model.state_dict()

    with pytest.raises(Preempted):
        train(tmp_path, part)
    path = tmp_path / "checkpoints" / "last.ckpt"
    stored = torch.load(path, weights_only=True)
    step = (part + 1) // 2
    assert (stored["global_step"], stored["images_seen"]) == (step, step * 32)
    whole, continued = train(tmp_path / "whole"), train(tmp_path, ckpt_path=path)
    assert all(torch.equal(value, continued[name]) for name, value in whole.items())
