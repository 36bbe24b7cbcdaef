"""Released classifiers: round trip, command, refusals."""

import json

import pytest
import safetensors.torch
import torch
from helpers import call

from checkpoints.classifier import describe_classifier, load_classifier
from checkpoints.files import write_safetensors
from common.errors import UserError
from networks.resnet import ResNet


def written(path, **changes):
    torch.manual_seed(0)
    network = ResNet(in_channels=1, channels=[8, 16], groups=4)
    description = {**describe_classifier(network, shape=(1, 8, 8), data="Digits"), **changes}
    write_safetensors(path, network, description, dtype=torch.float32, key="classifier")
    return network


def test_round_trip(tmp_path):
    network = written(tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded.network(x), network.eval()(x)) and not any(
        p.requires_grad for p in loaded.network.parameters()
    )


def test_the_command_writes_half_precision(tmp_path):
    network = written(tmp_path / "c.safetensors")
    state = {f"classifier.{k}": v for k, v in network.state_dict().items()}
    content = {
        "classifier": describe_classifier(network, shape=(1, 8, 8), data="Digits"),
        "state_dict": state,
        "ema": {"weights": network.state_dict()},
    }
    torch.save(content, tmp_path / "last.ckpt")
    result = call("-m", "checkpoints.classifier", tmp_path / "last.ckpt", tmp_path / "out.safetensors")
    assert result.returncode == 0 and "sha256" in result.stdout, result.stderr
    assert load_classifier(tmp_path / "out.safetensors").description["dtype"] == "float16"


def test_foreign_files_are_refused(tmp_path):
    written(tmp_path / "format.safetensors", format=99)
    written(tmp_path / "class.safetensors", network={"class_path": "os.system", "init_args": {}})
    written(tmp_path / "incomplete.safetensors", data={})
    safetensors.torch.save_file(
        {"w": torch.zeros(1)}, tmp_path / "prior.safetensors", metadata={"prior": json.dumps({})}
    )
    expected = {
        "format": "format 99",
        "class": "nothing was loaded",
        "incomplete": "incomplete",
        "prior": "is a prior, and a classifier is needed",
        "none": "no classifier at",
    }
    for name, words in expected.items():
        with pytest.raises(UserError, match=words):
            load_classifier(tmp_path / f"{name}.safetensors")
