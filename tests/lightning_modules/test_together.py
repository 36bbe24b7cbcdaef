"""Switches that are developed apart, in one run: averages, compile, channels-last, gradient checkpointing, bfloat16,
accumulation, resume.
"""

import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.health import Health


def fit(folder, steps, *, checkpoint=None, precision="32-true", **options):
    module = tiny_module(**options)
    callbacks = [EMA(profile="power", snapshot_every_n_images=32), FiniteLoss(), Health()]
    trainer = tiny_trainer(
        folder, *callbacks, max_steps=steps, limit_val_batches=0, precision=precision, gradient_clip_val=1.0
    )
    trainer.fit(
        module, datamodule=tiny_digits(batch_size=8), ckpt_path=checkpoint, weights_only=True if checkpoint else None
    )
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


def close(a, b, tolerance):
    for x, y in zip(a.average.tensors(), b.average.tensors(), strict=True):
        torch.testing.assert_close(x, y, atol=tolerance, rtol=tolerance)


def test_a_compiled_channels_last_run_is_the_plain_run(tmp_path, monkeypatch):
    """Traced for real, forward and backward; executed without code generation, which takes a minute and a compiler."""

    def traced(self):
        self._compiled_call_impl = torch.compile(self._call_impl, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    plain = fit(tmp_path / "a", 3)
    compiled = fit(tmp_path / "b", 3, compile=True, channels_last=True)
    assert list(compiled.network.state_dict()) == list(plain.network.state_dict())
    close(plain, compiled, 1e-4)


def test_bfloat16_and_channels_last_resume_exactly(tmp_path):
    options = {"precision": "bf16-mixed", "channels_last": True}
    whole = fit(tmp_path / "a", 4, **options)
    fit(tmp_path / "b", 2, **options)
    close(whole, fit(tmp_path / "b", 4, checkpoint=tmp_path / "b" / "last.ckpt", **options), 0)
    assert all(t.dtype == torch.float32 for t in whole.average.tensors())
