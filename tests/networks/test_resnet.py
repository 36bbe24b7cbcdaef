"""The classifier network: what its features depend on, and what it refuses."""

import pytest
import torch

from common.build import build
from common.errors import UserError
from networks.resnet import ResNet


def test_features_of_an_image_do_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    network = ResNet(in_channels=3, channels=[8, 16, 64]).double().eval()
    x = torch.randn(5, 3, 17, 20, dtype=torch.float64)
    together = network.features(x)
    assert together.shape == (5, 64) == (5, network.feature_dimension)
    torch.testing.assert_close(network.features(x[2:3])[0], together[2], atol=1e-12, rtol=0)
    torch.testing.assert_close(network(x), network.logits(together))


def test_it_describes_itself_and_has_the_promised_size():
    network = ResNet(in_channels=1)
    rebuilt = build(network.spec, ResNet, where="test", project_only=True)
    assert [(n, p.shape) for n, p in rebuilt.named_parameters()] == [
        (n, p.shape) for n, p in network.named_parameters()
    ]
    assert sum(p.numel() for p in network.parameters()) == 77_562


@pytest.mark.parametrize(
    ("options", "word"),
    [({"channels": []}, "channels"), ({"num_classes": 0}, "num_classes"), ({"dropout": 1.0}, "dropout")],
)
def test_nonsense_is_refused(options, word):
    with pytest.raises(UserError, match=word):
        ResNet(in_channels=1, **options)
    with pytest.raises(ValueError, match=r"\[B, 1, H, W\]"):
        ResNet(in_channels=1)(torch.zeros(2, 3, 8, 8))
