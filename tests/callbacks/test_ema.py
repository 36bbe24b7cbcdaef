"""EMA in a real run: what validation sees, what a checkpoint written in the middle of validation holds, accumulation of
gradients.
"""

import lightning.pytorch as pl
import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer
from safetensors.torch import load_file

from callbacks.ema import EMA
from checkpoints.snapshots import read_snapshots
from common.errors import UserError
from common.power_profile import gamma_of


class Watch(pl.Callback):
    """Notes the weights at the places that matter, and writes a checkpoint in the middle of validation."""

    def __init__(self, path) -> None:
        self.path, self.raw, self.seen = path, None, None

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.raw = {k: v.clone() for k, v in pl_module.network.state_dict().items()}

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.seen = {k: v.clone() for k, v in pl_module.network.state_dict().items()}
        self.average = {k: v.clone() for k, v in pl_module.average.state_dict()["weights"].items()}
        trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer, pl_module):
        self.end = {k: v.clone() for k, v in pl_module.network.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_validation_sees_the_average_and_checkpoints_know_which_is_which(tmp_path):
    ema, watch = EMA(half_life_images=1000, ramp=None), Watch(tmp_path / "mid.ckpt")
    model = tiny_module()
    tiny_trainer(tmp_path, ema, watch).fit(model, datamodule=tiny_digits())
    assert equal(watch.seen, watch.average) and not equal(watch.seen, watch.raw)
    stored = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    prefix = "denoiser.network."
    raw = {k.removeprefix(prefix): v for k, v in stored["state_dict"].items() if k.startswith(prefix)}
    assert equal(raw, watch.raw) and equal(stored["ema"]["weights"], watch.average)
    assert equal(watch.end, watch.raw), "after training the network holds the raw weights"


def test_an_error_in_validation_leaves_the_raw_weights_in_the_network(tmp_path):
    class Fails(pl.Callback):
        def on_validation_batch_end(self, *_):
            raise RuntimeError("in the middle of validation")

    watch, model = Watch(tmp_path / "mid.ckpt"), tiny_module()
    with pytest.raises(RuntimeError, match="in the middle"):
        tiny_trainer(tmp_path, EMA(half_life_images=1000, ramp=None), watch, Fails()).fit(
            model, datamodule=tiny_digits()
        )
    assert not equal(watch.seen, watch.raw), "validation had looked through the average"
    assert equal(model.network.state_dict(), watch.raw)


def test_test_and_predict_look_through_the_average_of_a_checkpoint(tmp_path):
    watch = Watch(tmp_path / "a.ckpt")
    data = tiny_digits()
    tiny_trainer(tmp_path, EMA(half_life_images=1000, ramp=None), watch).fit(tiny_module(), datamodule=data)
    seen = {}

    class Look(pl.Callback):
        def on_test_batch_start(self, trainer, pl_module, *_):
            seen["test"] = {k: v.clone() for k, v in pl_module.network.state_dict().items()}

        def on_predict_batch_start(self, trainer, pl_module, *_):
            seen["predict"] = {k: v.clone() for k, v in pl_module.network.state_dict().items()}

    fresh = tiny_module()
    tiny_trainer(tmp_path, EMA(), Look()).test(
        fresh, datamodule=data, ckpt_path=tmp_path / "a.ckpt", weights_only=True, verbose=False
    )
    tiny_trainer(tmp_path, EMA(), Look()).predict(
        tiny_module(), datamodule=data, ckpt_path=tmp_path / "a.ckpt", weights_only=True
    )
    assert equal(seen["test"], watch.average) and equal(seen["predict"], watch.average)


def test_accumulated_gradients_count_as_one_update(tmp_path):
    model = tiny_module()
    tiny_trainer(tmp_path, EMA(), max_steps=2, accumulate_grad_batches=2, limit_val_batches=0).fit(
        model, datamodule=tiny_digits(batch_size=8)
    )
    assert model.average.updates == 2 and model.images_seen == 32


def test_switched_off_it_leaves_nothing_behind(tmp_path):
    model = tiny_module()
    watch = tiny_trainer(tmp_path, EMA(enabled=False), max_steps=1, limit_val_batches=0)
    watch.fit(model, datamodule=tiny_digits(batch_size=8))
    watch.save_checkpoint(tmp_path / "raw.ckpt")
    assert model.average is None and "ema" not in torch.load(tmp_path / "raw.ckpt", weights_only=True)


def power(**options) -> EMA:
    return EMA(profile="power", **{"widths": (0.05, 0.1), "snapshot_every_n_images": 24, **options})


class History(pl.Callback):
    """The raw weights after every step, in float64, with the images seen."""

    def __init__(self) -> None:
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps.append(
            (pl_module.images_seen, {k: v.double().clone() for k, v in pl_module.network.named_parameters()})
        )


def test_a_power_average_is_the_integral_of_its_profile_over_the_run(tmp_path):
    """Computed again from all weights of the run with the closed-form shares t_k^(gamma+1) - t_(k-1)^(gamma+1)."""
    history, model = History(), tiny_module()
    tiny_trainer(tmp_path, power(), history, max_steps=6, limit_val_batches=0).fit(
        model, datamodule=tiny_digits(batch_size=8)
    )
    end = history.steps[-1][0]
    for which, width in enumerate((0.05, 0.1)):
        exponent, before = gamma_of(width) + 1, 0
        expected = {k: torch.zeros_like(v) for k, v in history.steps[0][1].items()}
        for seen, weights in history.steps:
            share = (seen / end) ** exponent - (before / end) ** exponent
            before = seen
            expected = {k: v + share * weights[k] for k, v in expected.items()}
        found = model.average.weights(which)
        for name, value in expected.items():
            torch.testing.assert_close(found[name].double(), value, atol=1e-6, rtol=1e-5)


def test_snapshots_are_written_at_their_images_and_at_the_end(tmp_path):
    tiny_trainer(tmp_path, power(snapshot_every_n_images=20), max_steps=7, limit_val_batches=0).fit(
        tiny_module(), datamodule=tiny_digits(batch_size=8)
    )
    found = list(read_snapshots(tmp_path / "ema").values())
    # 8 images a step, a snapshot at the first step where another 20 are full, and the end.
    assert [(s.images, s.step, s.width) for s in found] == [(i, i // 8, w) for i in (24, 40, 56) for w in (0.05, 0.1)]
    assert found[0].gamma == pytest.approx(16.9722, abs=1e-4)


def test_a_resumed_run_keeps_all_averages_exactly_and_its_snapshots_too(tmp_path):
    def run(folder, steps, checkpoint=None):
        model = tiny_module()
        trainer = tiny_trainer(folder, power(), max_steps=steps, limit_val_batches=0)
        trainer.fit(
            model, datamodule=tiny_digits(batch_size=8), ckpt_path=checkpoint, weights_only=True if checkpoint else None
        )
        trainer.save_checkpoint(folder / "last.ckpt")
        return model

    whole = run(tmp_path / "whole", 8)
    run(tmp_path / "parts", 5)
    stale = tmp_path / "parts" / "ema" / "width_0.05_images_000000009999.safetensors"
    stale.write_bytes(b"of a run that was begun anew")
    parts = run(tmp_path / "parts", 8, tmp_path / "parts" / "last.ckpt")
    assert parts.average.updates == whole.average.updates == 8
    assert all(torch.equal(a, b) for a, b in zip(parts.average.tensors(), whole.average.tensors(), strict=True))
    assert not stale.exists()
    for path in (tmp_path / "whole" / "ema").iterdir():
        assert equal(load_file(path), load_file(tmp_path / "parts" / "ema" / path.name)), path.name


def test_the_first_width_is_the_one_that_is_looked_through(tmp_path):
    watch = Watch(tmp_path / "mid.ckpt")
    model = tiny_module()
    tiny_trainer(tmp_path, power(snapshot_every_n_images=None), watch).fit(model, datamodule=tiny_digits())
    stored = torch.load(tmp_path / "mid.ckpt", weights_only=True)["ema"]
    assert equal(stored["weights"], watch.seen) and len(stored["others"]) == 1 and len(stored["names"]) == 2
    assert not equal(stored["others"][0], watch.seen)
    assert not (tmp_path / "ema").exists()


def test_a_checkpoint_with_other_averages_is_refused(tmp_path):
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=1, limit_val_batches=0)
    trainer.fit(tiny_module(), datamodule=tiny_digits())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"holds one exponential average, not power average of width 0\.05"):
        tiny_trainer(tmp_path, power()).test(
            tiny_module(), datamodule=tiny_digits(), ckpt_path=tmp_path / "a.ckpt", weights_only=True, verbose=False
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "power", "widths": (0.5,)}, "ema.widths"),
        ({"profile": "power", "widths": (0.1, 0.1)}, "different"),
        ({"profile": "power", "widths": ()}, "one or more"),
        ({"snapshot_every_n_images": 100}, "ema.profile power"),
        ({"profile": "power", "snapshot_every_n_images": 0}, "at least 1"),
        ({"profile": "linear"}, "exponential or power"),
        ({"half_life_images": 0}, "positive"),
    ],
)
def test_options_that_cannot_work(options, words):
    with pytest.raises(UserError, match=words):
        EMA(**options)
