"""EMA in a real run: what validation sees, what a checkpoint written in the middle of validation holds, accumulation of gradients."""

import lightning.pytorch as pl
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.ema import EMA


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
    tiny_trainer(tmp_path, EMA(), Look()).test(fresh, datamodule=data, ckpt_path=tmp_path / "a.ckpt", weights_only=True, verbose=False)
    tiny_trainer(tmp_path, EMA(), Look()).predict(tiny_module(), datamodule=data, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert equal(seen["test"], watch.average) and equal(seen["predict"], watch.average)


def test_accumulated_gradients_count_as_one_update(tmp_path):
    model = tiny_module()
    tiny_trainer(tmp_path, EMA(), max_steps=2, accumulate_grad_batches=2, limit_val_batches=0).fit(model, datamodule=tiny_digits(batch_size=8))
    assert model.average.updates == 2 and model.images_seen == 32


def test_switched_off_it_leaves_nothing_behind(tmp_path):
    model = tiny_module()
    watch = tiny_trainer(tmp_path, EMA(enabled=False), max_steps=1, limit_val_batches=0)
    watch.fit(model, datamodule=tiny_digits(batch_size=8))
    watch.save_checkpoint(tmp_path / "raw.ckpt")
    assert model.average is None and "ema" not in torch.load(tmp_path / "raw.ckpt", weights_only=True)
