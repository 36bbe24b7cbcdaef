import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from common.errors import UserError


def test_a_loss_that_is_not_a_number_stops_the_run_at_its_step(tmp_path):
    model = tiny_module()

    def losses(batch, generator):
        factor = float("nan") if model.global_step >= 2 else 1.0
        return factor * model.network(batch.image, torch.zeros(len(batch.image))).square().flatten(1).mean(1)

    model.losses = losses
    with pytest.raises(UserError, match=r"training loss is nan at step 3: lower model\.learning_rate"):
        tiny_trainer(tmp_path, EMA(), FiniteLoss(), max_steps=6, limit_val_batches=0).fit(model, datamodule=tiny_digits())


def test_no_checkpoint_of_it_is_written(tmp_path):
    look = FiniteLoss()
    look._loss = torch.tensor(float("inf"))
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=1, limit_val_batches=0)
    trainer.fit(tiny_module(), datamodule=tiny_digits())
    trainer.callbacks.append(look)
    with pytest.raises(UserError, match="inf"):
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "bad.ckpt").exists()
