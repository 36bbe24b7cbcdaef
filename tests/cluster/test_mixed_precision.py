"""16-mixed as far as a CPU runs it: a step that overflows moves the clocks and nothing else, and the scale is part of a
checkpoint.
"""

import itertools

import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision

from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint

OVERFLOWS = 2  # in the third step


class Watch(Callback):
    def __init__(self) -> None:
        self.rows = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        weights = torch.cat([p.detach().flatten() for p in pl_module.network.parameters()])
        average = torch.cat([t.flatten() for t in pl_module.average.tensors() if t.is_floating_point()])
        scale = trainer.precision_plugin.scaler.get_scale()
        self.rows.append((trainer.global_step, pl_module.images_seen, scale, weights, average))


def train(folder, fused: bool, ckpt_path=None):
    module, watch = tiny_module(fused=fused), Watch()
    inner = module.losses

    def losses(batch, generator):  # of this size it is a number still, but not when it is scaled and differentiated
        return inner(batch, generator) * (1e37 if module.images_seen == OVERFLOWS * 16 else 1.0)

    module.losses = losses
    precision = MixedPrecision(
        "16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    )
    options = {
        "plugins": [precision, AtomicCheckpointIO()],
        "max_steps": 7,
        "limit_val_batches": 0,
        "gradient_clip_val": 1.0,
        "enable_checkpointing": True,
    }
    trainer = tiny_trainer(
        folder, EMA(), FiniteLoss(), watch, RunCheckpoint(every_n_steps=100, keep_every_n_steps=4), **options
    )
    trainer.fit(module, datamodule=tiny_digits(), ckpt_path=ckpt_path)
    return watch.rows


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_overflows_moves_the_clocks_alone(fused, tmp_path):
    try:
        torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8).half(), torch.ones(1, 1, 3, 3).half())
    except RuntimeError as error:
        pytest.skip(f"this build has no convolution in float16 on a CPU: {error}")
    rows = train(tmp_path, fused)
    assert [row[:2] for row in rows] == [(k, 16 * k) for k in range(1, 8)]
    assert [row[2] for row in rows] == [1024, 1024, 512, 512, 512, 1024, 1024]
    moved = [not torch.equal(a[3], b[3]) for a, b in itertools.pairwise(rows)]
    assert moved == [k != OVERFLOWS for k in range(1, 7)]
    assert all(torch.isfinite(row[4]).all() for row in rows)
    again = train(tmp_path / "again", fused, ckpt_path=tmp_path / "checkpoints" / "step_0000004.ckpt")
    for there, here in zip(rows[4:], again, strict=True):
        assert there[:3] == here[:3] and torch.equal(there[3], here[3]) and torch.equal(there[4], here[4])
