"""A run that was stopped in mid-epoch goes on with the images it had not seen: with the real trainer."""

import itertools

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from PIL import Image

from datamodules.base import ImageDataModule
from datamodules.image_folder import ImageFolder
from datamodules.store import ImageSet, MemoryStore, everything


class Numbers(ImageDataModule):
    """n images, image i filled with i, with a gradient along the width so that a flip shows."""

    def __init__(self, *, n: int = 22, **options) -> None:
        super().__init__(**options)
        pixels = torch.arange(n, dtype=torch.uint8)[:, None, None, None] + 100 * torch.arange(2, dtype=torch.uint8)
        self.store = MemoryStore(pixels.expand(n, 1, 2, 2).contiguous())

    @property
    def shape(self):
        return (1, 2, 2)

    def _training_images(self) -> ImageSet:
        return everything(self.store)

    def _test_images(self) -> ImageSet:
        return everything(self.store)


class Recorder(pl.LightningModule):
    """Records the indices and flips of every batch it was trained on; fails at one step where told."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.flips, self.validated, self.fail_at = [], [], [], fail_at

    def training_step(self, batch, batch_idx):
        assert batch.image.dtype == torch.float32 and batch.image.abs().max() <= 1
        if self.global_step == self.fail_at:
            raise RuntimeError("out of memory, say")
        self.seen.append(batch.index.tolist())
        self.flips.append((batch.image[:, 0, 0, 0] > batch.image[:, 0, 0, 1]).tolist())
        return self.weight * batch.image.mean()

    def validation_step(self, batch, batch_idx):
        self.validated += batch.index.tolist()
        assert (batch.image[:, 0, 0, 0] < batch.image[:, 0, 0, 1]).all()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(
    folder,
    steps: int,
    *,
    ckpt_path=None,
    callbacks: list[Callback] | None = None,
    fail_at: int = -1,
    data=None,
    **options,
) -> Recorder:
    module = Recorder(fail_at)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        max_epochs=-1,
        default_root_dir=folder,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_checkpointing=callbacks is not None,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(module, data or Numbers(batch_size=4, validation=2, horizontal_flip=True, seed=3), ckpt_path=ckpt_path)
    return module


def flat(batches: list[list]) -> list:
    return list(itertools.chain.from_iterable(batches))


def saving(folder, every: int = 1, **options) -> ModelCheckpoint:
    return ModelCheckpoint(dirpath=folder, filename="{step}", every_n_train_steps=every, save_top_k=-1, **options)


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 6, 9, 10, 13])
def test_resume_at_any_step_gives_the_uninterrupted_sequence(tmp_path, stop):
    whole = run(tmp_path, 14)
    assert len(whole.seen) == 14
    first = run(tmp_path, stop, callbacks=[saving(tmp_path)])
    second = run(tmp_path, 14, ckpt_path=tmp_path / f"step={stop}.ckpt")
    assert first.seen + second.seen == whole.seen
    assert first.flips + second.flips == whole.flips
    for epoch in range(2):  # 20 images, batches of 4: an epoch gives every image once
        assert sorted(flat(whole.seen[5 * epoch : 5 * epoch + 5])) == sorted(set(flat(whole.seen)))


def test_resume_from_a_checkpoint_older_than_the_stop(tmp_path):
    whole = run(tmp_path, 14)
    run(tmp_path, 12, callbacks=[saving(tmp_path, every=7)])  # killed at 12, the newest checkpoint is of step 7
    assert run(tmp_path, 14, ckpt_path=tmp_path / "step=7.ckpt").seen == whole.seen[7:]


def test_a_batch_that_was_fetched_but_not_trained_on_is_given_again(tmp_path):
    whole = run(tmp_path, 10)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(tmp_path, 10, fail_at=7, callbacks=[saving(tmp_path, every=100, save_on_exception=True)])
    (path,) = tmp_path.glob("*.ckpt")
    assert run(tmp_path, 10, ckpt_path=path).seen == whole.seen[7:]


@pytest.mark.parametrize("stop", [2, 3, 4, 6])
def test_epochs_that_the_trainer_ends_early(tmp_path, stop):
    whole = run(tmp_path, 8, limit_train_batches=3)
    run(tmp_path, stop, callbacks=[saving(tmp_path)], limit_train_batches=3)
    assert run(tmp_path, 8, ckpt_path=tmp_path / f"step={stop}.ckpt", limit_train_batches=3).seen == whole.seen[stop:]


def test_validation_in_mid_epoch_neither_moves_nor_flips(tmp_path):
    options = {"val_check_interval": 2, "check_val_every_n_epoch": None}
    whole = run(tmp_path, 11)
    first = run(tmp_path, 6, callbacks=[saving(tmp_path)], **options)
    second = run(tmp_path, 11, ckpt_path=tmp_path / "step=6.ckpt", **options)
    assert first.seen + second.seen == whole.seen
    assert len(first.validated) == 6 and set(first.validated).isdisjoint(flat(whole.seen))


def test_checkpoint_at_the_end_of_an_epoch(tmp_path):
    whole = run(tmp_path, 12)
    run(
        tmp_path,
        5,
        callbacks=[ModelCheckpoint(dirpath=tmp_path, filename="end", save_on_train_epoch_end=True, every_n_epochs=1)],
    )
    assert run(tmp_path, 12, ckpt_path=tmp_path / "end.ckpt").seen == whole.seen[5:]


def test_worker_processes_that_decode_ahead_do_not_move_the_position(tmp_path):
    for k in range(22):
        Image.new("L", (8, 8), k).save(tmp_path / f"{k}.png")
    options = {
        "folder": str(tmp_path),
        "size": 4,
        "resize": 0,
        "crop": "random",
        "mode": "grey",
        "batch_size": 4,
        "horizontal_flip": True,
    }
    lazy = {"memory_limit_mb": 0, "test_images": 2, **options}
    whole = run(tmp_path, 9, data=ImageFolder(**lazy | {"memory_limit_mb": 2048}))
    first = run(tmp_path, 3, data=ImageFolder(workers=2, **lazy), callbacks=[saving(tmp_path)])
    second = run(tmp_path, 9, data=ImageFolder(workers=2, **lazy), ckpt_path=tmp_path / "step=3.ckpt")
    assert first.seen + second.seen == whole.seen and first.flips + second.flips == whole.flips


def test_predict_and_test_loops(tmp_path):
    class Both(Recorder):
        def predict_step(self, batch, batch_idx):
            return batch.index

        def test_step(self, batch, batch_idx):
            self.validated += batch.index.tolist()

    quiet = {"logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", use_distributed_sampler=False, default_root_dir=tmp_path, **quiet)
    data, module = Numbers(batch_size=4, predict_images=10), Both()
    assert torch.cat(trainer.predict(module, data)).tolist() == list(range(10))
    trainer.test(module, data)
    assert module.validated == list(range(22))
