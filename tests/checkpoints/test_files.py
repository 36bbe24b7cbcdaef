"""Files that hold no weights, or those of another kind, are said to be that."""

import pytest
import torch
from helpers import tiny_denoiser

from checkpoints.files import read_checkpoint_file, read_described, write_safetensors
from checkpoints.foreign.base import read_tensors
from checkpoints.load import load_prior
from common.errors import UserError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d7a" * 16 + "\nsize 12345\n"


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt", "a.pt", "it's.safetensors"])
def test_a_pointer_of_git_lfs(name, tmp_path):
    path = tmp_path / name
    path.write_text(POINTER)
    with pytest.raises(UserError, match=f"{name}' is a pointer of git-lfs .*git lfs pull"):
        load_prior(path)


def test_a_pointer_in_place_of_weights_of_diffusers(tmp_path):
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    path.write_text(POINTER)
    with pytest.raises(UserError, match="pointer of git-lfs"):
        read_tensors(path)


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_classifier_given_as_a_prior_and_the_other_way_round(suffix, tmp_path):
    for kind, wanted in (("classifier", "prior"), ("prior", "classifier")):
        path = tmp_path / f"{kind}.{suffix}"
        if suffix == "ckpt":
            torch.save({kind: {"data": {}}, "state_dict": {}, "ema": {"weights": {}}}, path)
        else:
            write_safetensors(path, tiny_denoiser().network, {"data": {}}, key=kind)
        with pytest.raises(UserError, match=f"{path.name}' is a {kind}, and a {wanted} is needed here"):
            read_described(path, key=wanted, prefix="network.")


def test_what_is_no_checkpoint_keeps_its_own_words(tmp_path):
    (tmp_path / "a.ckpt").write_text("hello")
    with pytest.raises(UserError, match="not a checkpoint"):
        read_checkpoint_file(tmp_path / "a.ckpt")
