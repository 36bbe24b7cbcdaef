"""Splits, range, options."""

from types import SimpleNamespace

import pytest
import torch

from common.errors import UserError
from datamodules.base import ImageDataModule, _keeps
from datamodules.digits import Digits
from datamodules.split import held_out_by_name, held_out_rows


def test_splits_are_disjoint_complete_and_fixed():
    sets = {s: set(Digits(validation=100).images(s).positions.tolist()) for s in ("train", "validation", "test")}
    assert [len(s) for s in sets.values()] == [1337, 100, 360]
    assert set.union(*sets.values()) == set(range(1797))
    same = Digits(validation=100, seed=9, batch_size=3, limit=50)
    assert set(same.images("validation").positions.tolist()) == sets["validation"]
    assert same.images("train").positions.tolist() == sorted(sets["train"])[:50]
    other = Digits(validation=100, split_seed=1)
    assert set(other.images("validation").positions.tolist()) != sets["validation"]
    assert set(other.images("test").positions.tolist()) == sets["test"], "no option moves the test split"


def test_validation_of_nothing_is_no_loader():
    data = Digits(validation=0)
    assert data.val_dataloader() == [] and len(data.images("train")) == 1437


def test_batches_become_floats_between_minus_one_and_one():
    data = Digits(batch_size=50)
    batch = next(iter(data.train_dataloader()))
    moved = data.on_after_batch_transfer(batch, 0)
    assert moved.image.dtype == torch.float32 and moved.image.min() == -1 and moved.image.max() == 1
    assert torch.equal(moved.index, batch.index) and torch.equal(moved.label, batch.label)


def test_predict_gives_indices():
    loader = Digits(batch_size=5, predict_images=12).predict_dataloader()
    assert torch.cat([b.index for b in loader]).tolist() == list(range(12))
    assert next(iter(loader)).image.shape == (5, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"validation": -1}, "validation must be at least 0, got -1"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"workers": -2}, "workers must be at least 0"),
        ({"memory_limit_mb": -1}, "memory_limit_mb must"),
        ({"predict_images": 0}, "predict_images must"),
        ({"keep_on_device": "maybe"}, "keep_on_device must be true, false or auto, got 'maybe'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        Digits(**options)


def test_more_validation_images_than_there_are():
    with pytest.raises(UserError, match=r"validation must be smaller than the training set \(1437 images\), got 1437"):
        Digits(validation=1437).images("train")


def test_unknown_split():
    with pytest.raises(ValueError, match="train, validation or test"):
        Digits().images("val")


def test_data_dir_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "/somewhere")
    assert str(Digits().data_dir) == "/somewhere" and str(Digits(data_dir="here").data_dir) == "here"
    monkeypatch.delenv("DATA_DIR")
    assert str(Digits().data_dir) == "data"


def test_the_base_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        ImageDataModule()


def test_held_out_rows_partition():
    held, rest = held_out_rows(50, 7, 0, "a")
    assert len(held) == 7 and sorted(held.tolist() + rest.tolist()) == list(range(50))
    assert not torch.equal(held, held_out_rows(50, 7, 1, "a")[0]) and not torch.equal(
        held, held_out_rows(50, 7, 0, "b")[0]
    )


def test_a_new_name_moves_at_most_one_other():
    names = [f"{k}.png" for k in range(200)]
    before = {names[r] for r in held_out_by_name(names, 20)[0]}
    more = ["a.png", *names]
    after = {more[r] for r in held_out_by_name(more, 20)[0]}
    assert len(before - after) <= 1


def attached(data: ImageDataModule, device: str = "cpu", rank: int = 0, world_size: int = 1) -> ImageDataModule:
    progress = SimpleNamespace(current=SimpleNamespace(ready=0, processed=0))
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(device)),
        global_rank=rank,
        world_size=world_size,
        limit_train_batches=1.0,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    return data


@pytest.mark.parametrize("world_size", [2, 4])
def test_batches_are_shared_by_any_number_of_processes(world_size):
    one = [b.index.tolist() for b in attached(Digits(batch_size=64, limit=300)).train_dataloader()]
    loaders = [
        attached(Digits(batch_size=64, limit=300), rank=rank, world_size=world_size).train_dataloader()
        for rank in range(world_size)
    ]
    several = [[b.index for b in loader] for loader in loaders]
    assert len(one) == 4 and [torch.cat(parts).tolist() for parts in zip(*several, strict=True)] == one


def test_a_batch_that_cannot_be_shared_is_refused_with_the_nearest_that_can():
    assert Digits(batch_size=48).batch_per_process(3) == 16
    with pytest.raises(UserError, match=r"batch_size 64 .* divided by 3 of them: set it to 63 or 66,"):
        attached(Digits(batch_size=64), world_size=3).train_dataloader()
    with pytest.raises(UserError, match=r"batch_size 2 .* by 4 of them: set it to 4,"):
        Digits(batch_size=2).batch_per_process(4)


def test_a_batch_that_is_larger_than_the_set_becomes_all_of_it(recwarn):
    """Every image once; the same in two processes where they can share it, and refused where they cannot."""
    data = attached(Digits(batch_size=64, limit=6))
    data.setup("fit")
    (batch,) = data.train_dataloader()
    first = data.images("train").get(range(6)).index.tolist()
    assert data.batch_size == 6 and sorted(batch.index.tolist()) == first
    parts = [attached(Digits(batch_size=64, limit=6), rank=r, world_size=2).train_dataloader() for r in range(2)]
    assert torch.cat([next(iter(part)).index for part in parts]).tolist() == batch.index.tolist()
    assert not [w for w in recwarn if "repeated" in str(w.message)]
    with pytest.raises(UserError, match=r"64 is larger than the training set of 6 images, which 4 .*: set it to 4, or"):
        attached(Digits(batch_size=64, limit=6), world_size=4).setup("fit")
    with pytest.raises(UserError, match=r"set of 6 images, which 8 processes cannot share: use another number"):
        attached(Digits(batch_size=64, limit=6), world_size=8).setup("fit")


def test_pixels_move_to_the_accelerator_once_for_all_splits():
    # "meta" stands in for an accelerator: it has shapes, no memory
    data = attached(Digits(keep_on_device=True), "meta")
    train, validation = (data._placed(data.images(s)) for s in ("train", "validation"))
    assert train.store is validation.store and train.store.pixels.device.type == "meta" == train.positions.device.type
    assert data.images("train").store.pixels.device.type == "cpu", "plain access stays on the CPU"
    for keep, device in ((False, "meta"), (True, "cpu"), ("auto", "cpu"), ("auto", "meta")):
        data = attached(Digits(keep_on_device=keep), device)
        assert data._placed(data.images("train")) is data.images("train")


def test_auto_is_a_quarter_of_the_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (400, 10**9))
    cuda, other = torch.device("cuda"), torch.device("mps")
    assert _keeps("auto", cuda, 100) and not _keeps("auto", cuda, 101) and not _keeps("auto", other, 1)
    assert _keeps(True, cuda, 10**9) and not _keeps(False, cuda, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_batches_are_the_same():
    plain, moved = Digits(), attached(Digits(keep_on_device=True), "cuda")
    for split in ("train", "test"):
        rows = torch.arange(9)
        a, b = plain.images(split).take(rows), moved._placed(moved.images(split)).take(rows)
        assert b.image.is_cuda and all(torch.equal(x, y.cpu()) for x, y in zip(a, b, strict=True))
