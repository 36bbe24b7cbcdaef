"""A number that is not finite stops the run at its step and names the layer; what was good stays."""

import os
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch
from helpers import ROOT, environment, tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss, _Part
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from common.errors import UserError
from common.image_range import to_float
from datamodules.digits import Digits


class Spoil(pl.Callback):
    """Does something to the module before the step that follows `step` steps."""

    def __init__(self, step: int, action) -> None:
        self.step, self.action, self.before = step, action, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            self.action(pl_module)
            self.before = {k: v.clone() for k, v in pl_module.network.state_dict().items()}


def fit(folder, spoil, module=None, data=None, **options):
    """The error of a run, and the module; checkpoints are written after every step."""
    module = module or tiny_module()
    trainer = tiny_trainer(
        folder,
        EMA(),
        FiniteLoss(),
        spoil,
        RunCheckpoint(every_n_steps=1),
        plugins=[AtomicCheckpointIO()],
        **{"max_steps": 6, "limit_val_batches": 0, "enable_checkpointing": True, **options},
    )
    with pytest.raises(UserError) as error:
        trainer.fit(module, datamodule=data or tiny_digits())
    return str(error.value), module


def last(folder) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def set_weight(name: str, value: float):
    def action(module):
        with torch.no_grad():
            module.network.get_parameter(name).view(-1)[0] = value

    return action


def a_weight() -> str:
    """The weight of a convolution in the middle of the network."""
    return next(n for n, p in tiny_module().network.named_parameters() if "middle" in n and p.ndim == 4)


def test_a_weight_that_is_not_a_number(tmp_path):
    name = a_weight()
    message, _ = fit(tmp_path, Spoil(2, set_weight(name, float("nan"))))
    assert f"training loss is nan at step 3, because the weight '{name}' of the network is not finite" in message
    assert "last good checkpoint is" in message and last(tmp_path)["global_step"] == 2


def test_an_exploding_layer_is_the_first_whose_output_overflows(tmp_path):
    """The weight itself is finite; its product with the activations is not."""
    name = a_weight()

    def explode(module):
        with torch.no_grad():
            module.network.get_parameter(name).fill_(3e38)

    message, _ = fit(tmp_path, Spoil(2, explode))
    assert f"at step 3, first in the output of the layer '{name.rsplit('.', 1)[0]}' (Conv2d)" in message
    assert last(tmp_path)["global_step"] == 2


def test_an_image_that_is_not_a_number(tmp_path):
    class Poisoned(Digits):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            image = to_float(batch.image)
            image[batch.index == 40] = float("nan")
            return batch._replace(image=image)

    data = Poisoned(batch_size=16, limit=64, validation=20)
    message, _ = fit(tmp_path, Spoil(99, None), data=data)
    assert "the training image with index 40 is not finite" in message


def poisoned_gradient(module, layer: str):
    """From now on the gradient with respect to the layer's output has a NaN; the forward pass stays finite."""
    target = module.network.get_submodule(layer)

    def hook(_module, _inputs, output):
        if output.requires_grad:
            output.register_hook(lambda g: g * float("nan"))

    target.register_forward_hook(hook)


@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(fused, tmp_path):
    layer = a_weight().rsplit(".", 1)[0]
    module = tiny_module()
    module.fused = fused
    spoil = Spoil(2, lambda m: poisoned_gradient(m, layer))
    message, module = fit(tmp_path, spoil, module)
    assert f"the gradient is not finite at step 3, first in the gradient of '{layer}." in message
    after = module.network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in spoil.before.items()), "the step was not made"
    assert last(tmp_path)["global_step"] == 2


def test_accumulated_parts_are_looked_at_one_by_one(tmp_path):
    message, _ = fit(
        tmp_path,
        Spoil(2, set_weight(a_weight(), float("nan"))),
        data=tiny_digits(batch_size=4),
        accumulate_grad_batches=2,
    )
    assert "at step 3" in message and last(tmp_path)["global_step"] == 2


def test_a_later_look_finds_the_step_and_layer_all_the_same(tmp_path, monkeypatch):
    """As on an accelerator, where a look waits for the device: four steps later the network is still as it was, and the
    step can be repeated.
    """
    layer = a_weight().rsplit(".", 1)[0]
    original, looks = FiniteLoss._look, []

    def seldom(self, trainer, pl_module, *, saving=False):
        if saving or trainer.global_step % 5 == 0:
            looks.append(trainer.global_step)
            original(self, trainer, pl_module, saving=saving)

    monkeypatch.setattr(FiniteLoss, "_look", seldom)
    spoil = Spoil(2, lambda m: poisoned_gradient(m, layer))
    trainer = tiny_trainer(tmp_path, EMA(), FiniteLoss(), spoil, max_steps=8, limit_val_batches=0)
    with pytest.raises(UserError, match=f"gradient is not finite at step 3, first in the gradient of '{layer}"):
        trainer.fit(tiny_module(), datamodule=tiny_digits())
    assert looks == [5]


def test_a_checkpoint_with_an_average_that_is_not_a_number_is_not_written(tmp_path):
    def action(module):
        module.average.tensors()[0].fill_(float("nan"))

    message, _ = fit(tmp_path, Spoil(2, action))
    assert "not finite at step 3 before it was saved: the averaged weights" in message
    assert last(tmp_path)["global_step"] == 2


def test_a_good_step_is_not_changed_by_the_guard(tmp_path):
    """found_inf = 0 in the fused step: bit for bit the step without it."""
    torch.manual_seed(0)
    a, b = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    first, second = (torch.optim.AdamW([p], lr=0.1, fused=True) for p in (a, b))
    for k in range(5):
        a.grad, b.grad = torch.full((5,), k + 0.5), torch.full((5,), k + 0.5)
        second.found_inf = torch.tensor(float(k == 3))
        second.step()
        if k != 3:
            first.step()
    assert torch.equal(a, b)
    assert all(torch.equal(first.state[a][k], second.state[b][k]) for k in first.state[a])


class Scaler:
    """A GradScaler's surface on a CPU, at a fixed scale."""

    def __init__(self, scale: float) -> None:
        self.value = scale

    def is_enabled(self) -> bool:
        return True

    def get_scale(self) -> float:
        return self.value


def test_a_scaled_gradient_that_overflows_is_not_a_mistake(tmp_path):
    """16-mixed: the scaler skips such a step and lowers its scale; only a scale below 1 stops the run."""
    module = tiny_module()
    trainer = tiny_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(module, datamodule=tiny_digits())
    look = FiniteLoss()

    def part():
        return _Part(None, 0, step=1, loss=torch.tensor(0.5), norm=torch.tensor(float("inf")))

    trainer.precision_plugin.scaler = Scaler(1024.0)
    look._parts = [part()]
    look._look(trainer, module)
    trainer.precision_plugin.scaler = Scaler(0.5)
    look._parts = [part()]
    with pytest.raises(UserError, match="scale of 16-mixed has fallen below 1"):
        look._look(trainer, module)


SCRIPT = """
import common.late_torchmetrics, common.torchvision_remedy
import sys, torch
sys.path.insert(0, "tests")
from pathlib import Path
from helpers import tiny_digits, tiny_module, tiny_trainer
from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from common.errors import run_cli

def main():
    model = tiny_module()
    losses = model.losses
    def bad(batch, generator):
        loss = losses(batch, generator)
        return loss * float("nan") if model.global_rank == 1 and model.images_seen >= 32 else loss
    model.losses = bad
    callbacks = [EMA(), FiniteLoss(), RunCheckpoint(every_n_steps=1)]
    options = dict(plugins=[AtomicCheckpointIO()], max_steps=6, limit_val_batches=0, enable_checkpointing=True)
    trainer = tiny_trainer(Path(sys.argv[1]), *callbacks, devices=2, strategy="ddp", **options)
    trainer.fit(model, datamodule=tiny_digits(batch_size=16))
run_cli(main)
"""


@pytest.mark.slow
def test_two_processes_of_which_one_sees_it_stop_together(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 2, result.stderr[-3000:]
    assert "training loss is nan at step 3, in the loss itself" in result.stderr and "Traceback" not in result.stderr, (
        result.stderr[-3000:]
    )
    assert last(tmp_path)["global_step"] == 2
