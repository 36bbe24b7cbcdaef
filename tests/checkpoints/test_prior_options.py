"""--prior, --weights, --preset and --adapter: what they mean, and that every command that takes a prior takes them."""

import argparse
import sys

import numpy as np
import pytest
import torch
from helpers import tiny_denoiser, write_tiny_prior
from PIL import Image

import restore
from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.files import write_safetensors
from checkpoints.lora.files import Adapter, AdapterEntry, write_adapter
from checkpoints.lora.merging import merged, weights_hash
from checkpoints.prior_options import adapters_of, add_prior_options, prior_of_options, restorer_of_options
from common.errors import UserError, run_cli
from degradations.severity.pixelation import Pixelation
from diffusion.cold_restorer import ColdRestorer
from networks.lora_settings import LoRASettings
from studies import cold_generation, invert, one_shot, severity_check


def adapter(seed=0) -> Adapter:
    """Of the tiny network: a change that one sees in 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    weight = tiny_denoiser().network.get_submodule("down.0.blocks.0.conv1").weight
    down, up = (
        0.5 * torch.randn(2, *weight.shape[1:], generator=generator),
        0.5 * torch.randn(weight.shape[0], 2, 1, 1, generator=generator),
    )
    layer = "down.0.blocks.0.conv1"
    return Adapter(
        LoRASettings(layers=(layer,), rank=2, alpha=2.0), {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    )


@pytest.fixture
def files(tmp_path):
    prior = write_tiny_prior(tmp_path / "prior.safetensors")
    return prior, write_adapter(tmp_path / "one", adapter(0)), write_adapter(tmp_path / "two", adapter(1))


def parsed(*words, **options) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_prior_options(parser, **options)
    return parser.parse_args([str(w) for w in words])


def test_paths_and_scales(tmp_path):
    (tmp_path / "a=0.5").mkdir()
    found = adapters_of(["x/adapter", "x/adapter=0.5", "x=1/adapter=-2", str(tmp_path / "a=0.5")])
    assert found == (
        AdapterEntry("x/adapter"),
        AdapterEntry("x/adapter", 0.5),
        AdapterEntry("x=1/adapter", -2.0),
        AdapterEntry(str(tmp_path / "a=0.5")),
    )
    for wrong in ("x=", "x=nan", "x=half", "=1"):
        with pytest.raises(UserError, match=r"PATH=SCALE"):
            adapters_of([wrong])


def test_the_adapters_are_in_the_weights_and_in_the_fingerprint(files):
    prior, one, two = files
    base = tiny_denoiser().network.state_dict()
    found = prior_of_options(parsed("--prior", prior, "--adapter", one, "--adapter", f"{two}=0.5"))
    expected = merged(base, [(adapter(0), 1.0), (adapter(1), 0.5)], where="it")
    assert weights_hash(found.denoiser.network.state_dict()) == weights_hash(expected)
    plain = prior_of_options(parsed("--prior", prior))
    assert weights_hash(plain.denoiser.network.state_dict()) == weights_hash(base)
    fingerprints = {
        prior_of_options(parsed("--prior", prior, "--adapter", f"{one}={c}")).fingerprint for c in (0, 0.5, 1)
    }
    assert len({plain.fingerprint, found.fingerprint, *fingerprints}) == 5
    with pytest.raises(UserError, match=r"'ffhq_256' is for a \.pt file of guided-diffusion"):
        prior_of_options(parsed("--prior", prior, "--preset", "ffhq_256"))


def test_beside_a_cold_restorer_too(files, tmp_path):
    _, one, _ = files
    network = tiny_denoiser().network
    restorer = ColdRestorer(network=network, family=Pixelation(data="mnist"), data_shape=(1, 8, 8))
    write_safetensors(
        tmp_path / "cold.safetensors", network, describe_cold_restorer(restorer, data="Digits"), dtype=torch.float32
    )
    args = parsed("--prior", tmp_path / "cold.safetensors", "--adapter", f"{one}=2", restorer=True)
    assert not hasattr(args, "preset")
    found = restorer_of_options(args)
    assert weights_hash(found.restorer.network.state_dict()) == weights_hash(
        merged(network.state_dict(), [(adapter(), 2.0)], where="it")
    )
    assert "+2*" in found.fingerprint


def test_restore_scales_an_adapter(files, tmp_path, monkeypatch, capsys):
    prior, one, two = files
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "in.png")

    def run(*words) -> tuple[int | str | None, str]:
        fixed = ["restore.py", tmp_path / "in.png", "--sigma_255", "40", "--output", tmp_path / "out"]
        monkeypatch.setattr(sys, "argv", [str(w) for w in (*fixed, *words)])
        with pytest.raises(SystemExit) as outcome:
            run_cli(restore.main)
        return outcome.value.code, capsys.readouterr().err

    def answer(*adapters) -> bytes:
        code, err = run(
            "--method", "sdedit", "--method.steps=3", "--prior", prior, *(w for a in adapters for w in ("--adapter", a))
        )
        assert code == 0, err
        return np.array(Image.open(tmp_path / "out" / "restored.png")).tobytes()

    base = answer()
    assert answer(f"{one}=0", f"{two}=0") == base  # off
    others = [answer(one), answer(f"{one}=0.5"), answer(one, two)]
    assert len({base, *others}) == 4
    assert answer(f"{one}=1.0") == others[0]
    for words, message in (
        (["--method", "sdedit", "--prior", prior, "--adapter", tmp_path / "none"], "there is no adapter at"),
        (["--method", "sdedit", "--prior", prior, "--adapter", f"{one}=a"], "'a' is no scale"),
        (["--adapter", one], "--method dip uses none"),
        (["--preset", "ffhq_256"], "--method dip uses none"),
        (["--method", "sdedit", "--prior", prior, "--preset", "ffhq_256"], "leave the preset out"),
    ):
        code, err = run(*words)
        assert code == 2 and message in err and err.count("error: ") == 1 and "Traceback" not in err


@pytest.mark.parametrize("module", [one_shot, invert, severity_check, cold_generation], ids=lambda m: m.__name__)
def test_every_command_that_takes_a_prior_takes_an_adapter(module, files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["it", "--help"])
    with pytest.raises(SystemExit):
        module.main()
    said = capsys.readouterr().out
    assert all(word in said for word in ("--prior PATH", "--weights", "--adapter PATH[=SCALE]"))
    assert ("--preset" in said) == (module in (one_shot, invert))
