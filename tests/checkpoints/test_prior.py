import json
import pickle

import pytest
import safetensors.torch
import torch
from helpers import tiny_denoiser, write_tiny_prior

from checkpoints.files import write_safetensors
from checkpoints.load import load_prior
from checkpoints.prior import FORMAT, describe_prior
from common.errors import UserError


@pytest.fixture
def denoiser():
    return tiny_denoiser()


def checkpoint(denoiser, **changes) -> dict:
    weights = denoiser.network.state_dict()
    content = {
        "prior": describe_prior(denoiser, data="Digits"),
        "state_dict": {"denoiser.network." + k: v for k, v in weights.items()},
        "ema": {"weights": {k: v + 1 for k, v in weights.items()}, "updates": 1},
    }
    return {**content, **changes}


def test_both_sets_of_weights_are_read(denoiser, tmp_path):
    torch.save(checkpoint(denoiser), tmp_path / "a.ckpt")
    raw, ema = load_prior(tmp_path / "a.ckpt", weights="raw"), load_prior(tmp_path / "a.ckpt")
    for p, r, e in zip(
        denoiser.network.parameters(), raw.denoiser.network.parameters(), ema.denoiser.network.parameters(), strict=True
    ):
        assert torch.equal(p, r) and torch.equal(p + 1, e) and not e.requires_grad
    assert not raw.denoiser.training and raw.denoiser.data_shape == (1, 8, 8) and raw.denoiser.prediction == "v"


def test_a_released_prior_gives_the_same_predictions(denoiser, tmp_path):
    prior = load_prior(write_tiny_prior(tmp_path / "p.safetensors"))
    x, sigma = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 2.0])
    torch.testing.assert_close(prior.denoiser.predict(x, sigma).x0, denoiser.predict(x, sigma).x0, rtol=0, atol=0)


def test_half_precision_costs_little(denoiser, tmp_path):
    """float16 has 11 significant bits: relative error of a weight below 2^-11."""
    write_safetensors(tmp_path / "h.safetensors", denoiser.network, describe_prior(denoiser, data="Digits"))
    prior = load_prior(tmp_path / "h.safetensors")
    for p, q in zip(denoiser.network.parameters(), prior.denoiser.network.parameters(), strict=True):
        assert q.dtype == torch.float32
        torch.testing.assert_close(p.detach(), q, rtol=2**-11, atol=1e-7)


def test_a_weight_that_half_precision_cannot_hold_is_not_released(denoiser, tmp_path):
    """The file would be refused when it is read, after the checkpoint is gone."""
    with torch.no_grad():
        denoiser.network.head.bias.fill_(1e5)
    with pytest.raises(UserError, match=r"'head\.bias' is not finite as float16"):
        write_safetensors(tmp_path / "h.safetensors", denoiser.network, describe_prior(denoiser, data="Digits"))
    assert not (tmp_path / "h.safetensors").exists()


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_checkpoint_that_would_run_code_is_refused_and_nothing_runs(tmp_path, capsys):
    torch.save({"prior": Evil()}, tmp_path / "evil.ckpt")
    with open(tmp_path / "pickle.ckpt", "wb") as file:
        pickle.dump(Evil(), file)
    for name in ("evil.ckpt", "pickle.ckpt"):
        with pytest.raises(UserError, match=name):
            load_prior(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("class_path", ["subprocess.Popen", "torch.nn.Linear", "networks.unet.nn"])
def test_a_class_from_outside_the_project_is_refused(denoiser, tmp_path, class_path):
    content = checkpoint(denoiser)
    content["prior"]["network"]["class_path"] = class_path
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="network"):
        load_prior(tmp_path / "a.ckpt")


def broken(tmp_path, denoiser, name: str):
    path = tmp_path / f"{name}.ckpt"
    content = checkpoint(denoiser)
    if name == "text":
        path.write_text("not a checkpoint")
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "torn":
        torch.save(content, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif name == "foreign":
        torch.save({"model": torch.zeros(3)}, path)
    elif name == "tensor":
        torch.save(torch.zeros(3), path)
    elif name == "future":
        content["prior"]["format"] = FORMAT + 1
        torch.save(content, path)
    elif name == "incomplete":
        del content["prior"]["schedule"]
        torch.save(content, path)
    elif name == "missing_key":
        del content["ema"]["weights"]["head.weight"]
        torch.save(content, path)
    elif name == "shape":
        content["ema"]["weights"]["head.weight"] = torch.zeros(2, 2)
        torch.save(content, path)
    elif name == "nan":
        content["ema"]["weights"]["head.weight"] += float("nan")
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent", "no prior at"),
        ("text", "text.ckpt"),
        ("empty", "cannot be read"),
        ("torn", "cannot be read"),
        ("foreign", "no key 'prior'"),
        ("tensor", "foreign"),
        ("future", "format"),
        ("incomplete", "schedule"),
        ("missing_key", "head.weight"),
        ("shape", "head.weight"),
        ("nan", "not finite"),
    ],
)
def test_files_that_are_no_priors(name, words, tmp_path, denoiser):
    path = broken(tmp_path, denoiser, name)
    with pytest.raises(UserError, match=words) as error:
        load_prior(path)
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_safetensors_that_are_no_priors(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    safetensors.torch.save_file(
        {"a": torch.zeros(2)}, tmp_path / "list.safetensors", metadata={"prior": json.dumps([1])}
    )
    (tmp_path / "text.safetensors").write_text("hello, this is text")
    for name in ("plain", "list", "text"):
        with pytest.raises(UserError, match=f"{name}.safetensors"):
            load_prior(tmp_path / f"{name}.safetensors")


def test_unknown_weights_are_refused(tmp_path):
    with pytest.raises(UserError, match="'ema' or 'raw'"):
        load_prior(write_tiny_prior(tmp_path / "p.safetensors"), weights="best")
