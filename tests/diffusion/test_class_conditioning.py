import pytest
import torch

from diffusion.class_conditioning import ClassConditioning
from diffusion.guidance import Guided
from tests.diffusion.tools import gaussian


def test_labels_are_dropped_with_their_probability():
    label, u = torch.arange(10).repeat(1000), torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    for dropout, expected in ((None, 0.1), (0.3, 0.3), (0.0, 0.0)):
        found = ClassConditioning(10, dropout).of_training(label, u).label
        dropped = found == -1
        assert float(dropped.float().mean()) == pytest.approx(
            expected, abs=4 * (expected * (1 - expected) / 10_000) ** 0.5
        )
        assert torch.equal(found[~dropped], label[~dropped])
    assert torch.equal(ClassConditioning(10).of_training(label, None).label, label)  # validation


def test_classes_are_drawn_in_turn_or_one_alone():
    assert ClassConditioning(3).of_drawing([0, 1, 2, 3, 7], "cpu").label.tolist() == [0, 1, 2, 0, 1]
    assert ClassConditioning(3, sampling_label=2).of_drawing([0, 5], "cpu").label.tolist() == [2, 2]


def test_a_network_without_labels():
    none, denoiser = ClassConditioning(), gaussian()
    assert (
        none.of_training(torch.tensor([3]), torch.zeros(1)) is None
        and none.of_drawing([0], "cpu") is None
        and none.guided(denoiser) is denoiser
    )
    none.check_labels(torch.tensor([3]))
    ClassConditioning(label_dropout=0.0)


def test_guidance():
    guided = ClassConditioning(10, guidance_scale=3.0, guidance_interval=(0.2, 2.0), guidance_rescale=0.5).guided(
        gaussian()
    )
    assert isinstance(guided, Guided) and (guided.scale, guided.interval, guided.rescale) == (3.0, (0.2, 2.0), 0.5)
    for options in ({"guidance_scale": float("inf")}, {"guidance_interval": (2.0, 1.0)}, {"guidance_rescale": 2.0}):
        with pytest.raises(ValueError, match=r"scale|interval"):
            ClassConditioning(10, **options).guided(gaussian())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"guidance_scale": 2.0}, "guidance_scale=2.0 needs labels.*num_classes"),
        ({"label_dropout": 0.1}, "label_dropout=0.1 needs labels"),
        ({"sampling_label": 0}, "sampling_label=0 needs labels"),
        ({"guidance_rescale": 0.7}, "needs labels"),
        ({"guidance_interval": (0.1, 1.0)}, "needs labels"),
        ({"num_classes": 10, "label_dropout": 1.0}, "label_dropout must lie"),
        ({"num_classes": 10, "sampling_label": 10}, r"0 \.\. 9, got 10"),
        ({"num_classes": 10, "label_dropout": 0.0, "guidance_scale": 2.0}, "trained without labels too"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=match):
        ClassConditioning(**options)


def test_labels_of_the_training_set():
    ten = ClassConditioning(10)
    ten.check_labels(torch.tensor([0, 9, -1]))
    with pytest.raises(ValueError, match=r"up to 10: set network\.num_classes to 11, not 10"):
        ten.check_labels(torch.tensor([0, 10]))
    with pytest.raises(ValueError, match="no labels"):
        ten.check_labels(torch.tensor([-1, -1]))
