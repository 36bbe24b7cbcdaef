"""Weights of groups, by hand, and the order that is drawn with them: for any number of processes, and when stopped."""

import numpy as np
import pytest
import torch

from common.errors import UserError
from datamodules.digits import Digits
from datamodules.loader import ResumableLoader
from datamodules.reweighting import Reweighting, drawn_rows, effective_images
from datamodules.store import MemoryStore, everything

#: 80 images of group 0, 16 of group 1, 4 of group 2.
GROUPS = torch.tensor([0] * 80 + [1] * 16 + [2] * 4)


def loader(**options) -> ResumableLoader:
    images = everything(MemoryStore(torch.zeros(100, 1, 1, 1, dtype=torch.uint8)))
    weights = Reweighting(most=20, least=0.05).weights(GROUPS)
    return ResumableLoader(images, **{"batch_size": 10, "seed": 3, "groups": GROUPS, "weights": weights, **options})


def given(loader: ResumableLoader) -> list[int]:
    return [i for batch in loader for i in batch.index.tolist()]


@pytest.mark.parametrize(("gamma", "expected"), [(0, [1, 1, 1]), (1, [1 / 2.4, 1 / 0.48, 1 / 0.12])])
def test_weights_by_hand(gamma, expected):
    """w = p^-gamma / sum p^(1 - gamma): for gamma 1 and three groups 1 / (3 p)."""
    found = Reweighting(gamma=gamma).weights(GROUPS)
    assert found.tolist() == pytest.approx(expected)
    assert float(found[GROUPS].mean()) == pytest.approx(1)


def test_weights_are_clipped_and_have_the_mean_1_again():
    found = Reweighting(gamma=1, least=0.5, most=2).weights(GROUPS)
    assert float(found[GROUPS].mean()) == pytest.approx(1) and float(found[2] / found[0]) == pytest.approx(4)


def test_effective_images():
    assert effective_images(torch.ones(7)) == pytest.approx(7)
    assert effective_images(torch.tensor([1.0, 0, 0])) == pytest.approx(1)


def test_rows_are_drawn_as_often_as_their_weight_says():
    """Floor or ceil of the expected number, whatever the generator."""
    weight = torch.tensor([0.5, 2.0, 0.0, 1.3])
    for seed in range(5):
        counts = torch.bincount(drawn_rows(weight, 38, np.random.default_rng(seed)), minlength=4)
        for count, expected in zip(counts.tolist(), [5, 20, 0, 13], strict=True):
            assert abs(count - expected) <= 1
    assert drawn_rows(weight, 38, np.random.default_rng(0)).tolist() != sorted(
        drawn_rows(weight, 38, np.random.default_rng(0)).tolist()
    )


@pytest.mark.parametrize("weight", [[0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0]])
def test_impossible_weights(weight):
    with pytest.raises(ValueError, match="at least 0, finite and not all 0"):
        drawn_rows(torch.tensor(weight), 3, np.random.default_rng(0))
    share = torch.tensor([0.5, 0.5], dtype=torch.float64)
    with pytest.raises(UserError, match="not all 0"):
        Reweighting().bounded(torch.tensor(weight, dtype=torch.float64), share)


def test_processes_share_one_order_that_evens_groups_out():
    whole = given(loader())
    parts = [given(loader(batch_size=5, rank=rank, world_size=2)) for rank in (0, 1)]
    joined = [i for k in range(10) for rank in (0, 1) for i in parts[rank][5 * k : 5 * k + 5]]
    assert joined == whole and len(whole) == 100
    counts = torch.bincount(GROUPS[torch.tensor(whole)])
    assert int(counts.max()) - int(counts.min()) <= 3


def test_an_epoch_that_was_stopped_goes_on_and_new_weights_hold_from_the_next_one():
    first = loader()
    begun = iter(first)
    before = [next(begun).index.tolist() for _ in range(4)]
    first.reweight(torch.tensor([1.0, 0, 0]))
    state = first.state_dict()
    rest = [batch.index.tolist() for batch in begun]
    again = loader()
    again.load_state_dict(state)
    assert [batch.index.tolist() for batch in again] == rest and len(before) + len(rest) == 10
    assert max(given(again)) < 80 and max(given(first)) < 80
    plain = ResumableLoader(first.images, batch_size=10, seed=3)
    assert set(plain.state_dict()) == {"epoch", "given", "images"}
    with pytest.raises(ValueError, match="no groups"):
        plain.reweight(torch.ones(3))


@pytest.mark.parametrize("before", ["others", "none"])
def test_weights_that_a_configuration_changed_hold_from_a_new_epoch_on(before):
    """They were passed over in silence, or held in the middle of an epoch whose order was another one."""
    old = loader(weights=Reweighting(gamma=0.5).weights(GROUPS)) if before == "others" else loader(weights=None)
    begun = iter(old)
    for _ in range(3):
        next(begun)
    new = loader()
    with pytest.warns(UserWarning, match="began with other weights of groups"):
        new.load_state_dict(old.state_dict())
    expected = loader()
    assert given(expected) and given(new) == given(expected), "epoch 1, its own weights"
    assert new.epoch == 1
    # and the other way round
    with pytest.warns(UserWarning, match="began with other weights"):
        old.load_state_dict(new.state_dict() | {"given": 30})
    assert old.epoch == 2


def test_a_set_that_has_grown_is_told_as_that_and_has_its_own_weights():
    """Its shares, and with them the weights, are others too."""
    old = loader()
    next(iter(old))
    groups = torch.cat([GROUPS, torch.tensor([2] * 20)])
    images = everything(MemoryStore(torch.zeros(120, 1, 1, 1, dtype=torch.uint8)))
    options = {"batch_size": 10, "seed": 3, "groups": groups, "weights": Reweighting().weights(groups)}
    new, expected = ResumableLoader(images, **options), ResumableLoader(images, **options)
    with pytest.warns(UserWarning, match="has 120 images, but had 100 when the run stopped: beginning a new epoch"):
        new.load_state_dict(old.state_dict())
    assert given(expected) and given(new) == given(expected) and new.epoch == 1


def test_weights_of_a_checkpoint_of_before_go_on():
    first = loader()
    begun = iter(first)
    next(begun)
    first.reweight(torch.tensor([1.0, 0, 0]))
    state = {k: v for k, v in first.state_dict().items() if k != "first_weights"}
    again = loader()
    again.load_state_dict(state)
    assert given(again) == [i for batch in begun for i in batch.index.tolist()] and max(given(again)) < 80


def test_groups_from_a_file(tmp_path):
    images = everything(MemoryStore(torch.zeros(4, 1, 1, 1, dtype=torch.uint8)))
    path = tmp_path / "groups.npz"
    np.savez(path, index=np.array([3, 2, 1, 0]), group=np.array([0, 0, 0, 1]))
    assert Reweighting(by=str(path)).groups(images).tolist() == [1, 0, 0, 0]
    np.savez(path, index=np.array([3, 2, 1]), group=np.array([0, 0, 0]))
    with pytest.raises(UserError, match="of image 0"):
        Reweighting(by=str(path)).groups(images)
    np.savez(path, index=np.array([3, 2, 1]))
    with pytest.raises(UserError, match="no file of groups, which has the arrays"):
        Reweighting(by=str(path)).groups(images)
    for group in ([0, 0, 0, -1], [0, 0, 0, 10**12]):  # one weight for each group up to the largest
        np.savez(path, index=np.arange(4), group=np.array(group))
        with pytest.raises(UserError, match=r"must lie in 0 \.\. 3, got"):
            Reweighting(by=str(path)).groups(images)
    np.savez(path, index=np.arange(4), group=np.array([0, 0, 1, 1]))
    whole = path.read_bytes()
    for damaged in (b"", b"words", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="no file of groups"):
            Reweighting(by=str(path)).groups(images)
    for index, group in ((np.arange(4), np.zeros(3)), (np.zeros((4, 2)), np.zeros(4)), (np.array(3), np.array(0))):
        np.savez(path, index=index, group=group)
        with pytest.raises(UserError, match="equally many numbers"):
            Reweighting(by=str(path)).groups(images)
    with pytest.raises(UserError, match=r"studies\.clusters"):
        Reweighting(by=str(tmp_path / "none.npz")).groups(images)
    with pytest.raises(UserError, match="the images have none"):
        Reweighting().groups(images)


@pytest.mark.parametrize("by", ["none.npz", "label"])
def test_what_does_not_suit_the_images_is_refused_when_they_are_read(by, monkeypatch):
    """Which comes before a run folder is made, and before the first batch."""
    data = Digits(limit=20, reweighting=Reweighting(by=by))
    images = data.images("train")
    monkeypatch.setattr(images.store, "label", torch.full_like(images.store.label, -1))
    with pytest.raises(UserError, match=r"no file of groups 'none\.npz'|the images have none: give a file of groups"):
        data.setup("fit")
    data.setup("test")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"gamma": 2}, "gamma must lie"), ({"least": 0}, "least must lie"), ({"most": 0.5}, "most be")],
)
def test_options_out_of_range(options, words):
    with pytest.raises(UserError, match=words):
        Reweighting(**options)


def test_weights_of_another_number_of_groups():
    with pytest.raises(UserError, match="there are 3 groups of training images, and weights of 10"):
        Reweighting().renewed(torch.ones(3), GROUPS, times=torch.ones(10))
