"""Feature networks from files: a classifier's features, and what a made-up Inception file is given."""

import pytest
import torch
from torch import nn

from checkpoints.classifier import describe_classifier
from checkpoints.features import ClassifierFeatures, InceptionFeatures, _resized
from checkpoints.files import write_safetensors
from checkpoints.inception import SCRIPTED
from common.errors import UserError
from networks.resnet import ResNet


class Layers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)).repeat(1, 683)[:, :2048, None, None]


class TinyInception(nn.Module):
    """The surface of the published file: `layers` on normalised pixels, and a forward that gives probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers()

    def forward(self, x: torch.Tensor, no_output_bias: bool = False) -> torch.Tensor:
        return torch.softmax(x.mean((2, 3)) if no_output_bias else 2 * x.mean((2, 3)), 1)


@pytest.fixture
def inception(tmp_path, monkeypatch):
    torch.jit.script(TinyInception()).save(str(tmp_path / SCRIPTED.name))
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    return InceptionFeatures()


def test_classifier_features_are_the_networks_on_the_saved_pixels(tmp_path):
    network = ResNet(in_channels=1, channels=[8, 16], groups=4).eval()
    write_safetensors(
        tmp_path / "tiny.safetensors",
        network,
        describe_classifier(network, shape=(1, 8, 8), data="Digits"),
        dtype=torch.float32,
        key="classifier",
    )
    features = ClassifierFeatures(path=str(tmp_path / "tiny.safetensors"))
    pixels = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = features.of_all(pixels, batch_size=3)
    x = pixels.float() / 127.5 - 1
    torch.testing.assert_close(found.features, network.features(x).detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.probabilities, network(x).softmax(1).detach(), atol=1e-5, rtol=0)
    assert (features.name, features.dimension) == ("tiny", 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(features.of(pixels).features, found.features, atol=1e-5, rtol=0)
    with pytest.raises(UserError, match=r"\[1, 8, 8\], these are \[3, 32, 32\]"):
        features.check((3, 32, 32))


def test_inception_gets_three_channels_of_299_pixels(inception):
    pixels = torch.full((2, 1, 8, 8), 200, dtype=torch.uint8)
    found = inception.of(pixels)
    assert found.features.shape == (2, 2048)
    torch.testing.assert_close(found.features, torch.full((2, 2048), (200 - 128) / 128), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.probabilities, torch.full((2, 3), 1 / 3), atol=1e-5, rtol=0)
    edge = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255
    resized = _resized(edge[0])
    assert resized.shape == (3, 299, 299) and resized.min() == 0 and resized.max() == 255, (
        "the overshoot of the bicubic kernel is clipped"
    )
    with pytest.raises(UserError, match="2 channels"):
        inception.check((2, 8, 8))


def test_a_missing_or_broken_inception_file_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    with pytest.raises(UserError, match=r"nowhere/inception-2015-12-05.pt.*hub/checkpoints.*https://.*WEIGHTS_DIR"):
        InceptionFeatures()
    (tmp_path / "broken.pt").write_bytes(b"no program")
    with pytest.raises(UserError, match="not a TorchScript file"):
        InceptionFeatures(path=str(tmp_path / "broken.pt"))


def test_a_classifier_of_small_images_takes_means_of_pixels(tmp_path):
    network = ResNet(in_channels=1, channels=[8, 16], groups=4).eval()
    description = describe_classifier(network, shape=(1, 8, 8), data="Digits")
    path = tmp_path / "tiny.safetensors"
    write_safetensors(path, network, description, dtype=torch.float32, key="classifier")
    plain, pooled = ClassifierFeatures(path=str(path)), ClassifierFeatures(path=str(path), pool=2)
    small = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(pooled.of(large).features, plain.of(small).features, atol=1e-6, rtol=0)
    assert (plain.name, pooled.name) == ("tiny", "tiny_pool2")  # features of the two are never mixed
    pooled.check((1, 16, 16))
    with pytest.raises(UserError, match=r"knows images of \[1, 16, 16\], these are \[1, 8, 8\]"):
        pooled.check((1, 8, 8))
    with pytest.raises(UserError, match="pool of the feature network must be at least 1, got 0"):
        ClassifierFeatures(path=str(path), pool=0)
