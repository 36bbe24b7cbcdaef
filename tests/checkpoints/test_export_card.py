"""The page beside a released file: hash, config, images seen, curve up to the checkpoint and no further."""

import json

import pytest
import torch
import yaml
from helpers import call, one_sentence, tiny_denoiser

from checkpoints.asset_card import curve_of_run
from checkpoints.load import load_prior
from checkpoints.prior import describe_prior
from common.errors import UserError
from common.files import sha256_of


@pytest.fixture
def run(tmp_path):
    """A run folder as train.py leaves it, which went on after the checkpoint."""
    denoiser = tiny_denoiser()
    training = {"images": 6400, "steps": 100, "from": {"path": "/home/me/base.ckpt"}}
    weights = denoiser.network.state_dict()
    content = {
        "prior": describe_prior(denoiser, data="Digits", training=training),
        "state_dict": {"denoiser.network." + k: v for k, v in weights.items()},
        "ema": {"weights": {k: v + 1 for k, v in weights.items()}, "updates": 1},
    }
    folder = tmp_path / "digits"
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / "checkpoints/last.ckpt")
    rows = [
        "step,images,train/loss,val/loss,quality/fid",
        "49,3200,0.5,,",
        "49,,,0.4,",
        "99,6400,0.3,,",
        "99,,,0.25,1.5",
    ]
    (folder / "metrics.csv").write_text("\n".join([*rows, "149,,,0.0625,0.125"]) + "\n")
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"prior": "/home/me/base.ckpt"}, "wandb": 1}))
    return folder


def test_the_card_says_what_the_file_is(run, tmp_path):
    (tmp_path / "table.csv").write_text("sampler,metric,value\nddim,fid,0.75\n")
    output = tmp_path / "prior.safetensors"
    words = ["-m", "checkpoints.export", run / "checkpoints/last.ckpt", output, "--card", "--note", "Licence: MIT."]
    done = call(*words, "--metrics", tmp_path / "table.csv")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "prior.md").read_text()
    for said in (
        "# prior.safetensors",
        f"{output.stat().st_size:,} bytes, `{sha256_of(output)}`",
        "6,400 in 100 steps",
        "Digits, 8x8 grey",
        "exponential average, float16",
        "run `digits`",
        "Licence: MIT.",
        "| images seen | step | val/loss | quality/fid |",
        "| 3,200 | 50 | 0.4 |  |",
        "| 6,400 | 100 | 0.25 | 1.5 |",
        "| ddim | fid | 0.75 |",
        "prior: base.ckpt",
    ):
        assert said in card, said
    for other in ("0.0625", "home/me", "wandb"):  # what came after the checkpoint, what is of one machine
        assert other not in card, other
    assert load_prior(output).description["training"]["images"] == 6400


def test_a_card_of_a_released_file_has_no_run(run, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert call("-m", "checkpoints.export", run / "checkpoints/last.ckpt", first).returncode == 0
    assert not first.with_suffix(".md").exists()
    assert call("-m", "checkpoints.export", first, second, "--card").returncode == 0
    card = second.with_suffix(".md").read_text()
    assert "made from | `a.safetensors`" in card and "Curve" not in card and "configuration" not in card


def test_a_long_curve_is_thinned_to_ten_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(
        "step,images,val/loss\n" + "".join(f"{k},{8 * (k + 1)},{json.dumps(1 / (k + 1))}\n" for k in range(57))
    )
    lines = curve_of_run(path, 40).splitlines()
    assert len(lines) == 12
    assert lines[2].startswith("| 8 | 1 | 1.0 ") and lines[-1] == "| 320 | 40 | 0.025 |"
    assert curve_of_run(tmp_path / "absent.csv", 40) == "" and curve_of_run(path, 0) == ""


def test_options_that_do_not_belong_together(run, tmp_path):
    checkpoint, output = run / "checkpoints/last.ckpt", tmp_path / "prior.safetensors"
    one_sentence(call("-m", "checkpoints.export", checkpoint, output, "--note", "x"), "are for the card of --card")
    words = ["--format", "diffusers", "--card"]
    one_sentence(call("-m", "checkpoints.export", checkpoint, tmp_path / "f", *words), "always writes a card")
    (tmp_path / "empty.csv").write_text("a,b\n")
    words = ["--card", "--metrics", tmp_path / "empty.csv"]
    one_sentence(call("-m", "checkpoints.export", checkpoint, output, *words), "has no rows")
    with pytest.raises(UserError, match="not a table"):
        (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe\x00")
        curve_of_run(tmp_path / "metrics.csv", 1)
