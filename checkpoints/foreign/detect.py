"""Which files are another project's prior, and reading them: the door beside our own checkpoints."""

import pickle
import zipfile
from pathlib import Path
from typing import Literal

import torch

from checkpoints.files import read_checkpoint_file
from checkpoints.foreign import adm_flags, kair
from checkpoints.foreign.adm_layout import is_adm
from checkpoints.foreign.base import ForeignPrior
from checkpoints.foreign.diffusers_files import holds_weights
from checkpoints.foreign.import_adm import read_adm
from checkpoints.foreign.import_diffusers import is_hub_name, read_diffusers
from common.errors import UserError

#: What a file may need to be told, by name: flags of guided-diffusion, the level of a DnCNN.
PRESETS = (*adm_flags.PRESETS, *kair.PRESETS)
_TORCH = (".pt", ".pth")


def is_foreign(path: str | Path) -> bool:
    """Whether `path` is to be read by :func:`read_foreign`: a folder, a weights file of diffusers, a name of the hub,
    weights of guided-diffusion, or a denoiser of KAIR's layout.
    """
    path = Path(path)
    return _is_diffusers(path) or (path.suffix in _TORCH and path.is_file() and _kind(path) != "ours")


def read_foreign(path: str | Path, *, preset: str | None = None) -> ForeignPrior:
    """The prior at a path that is foreign; preset: of weights of guided-diffusion or of a DnCNN. UserError for whatever
    is wrong with it.
    """
    path = Path(path)
    if not _is_diffusers(path):
        return (kair.read_kair if _kind(path) == "kair" else read_adm)(path, preset=preset)
    refuse_preset(path, preset)
    if path.is_dir() and not any((path / name).exists() for name in ("unet", "config.json")):
        last = path / "checkpoints" / "last.ckpt"
        advice = f"give '{last}'" if last.is_file() else "give the path of a .ckpt or .safetensors file"
        raise UserError(
            f"there is no prior at '{path}': it is a folder, and not one of diffusers with unet/config.json or"
            f" config.json: {advice}"
        )
    return read_diffusers(path)


def refuse_preset(path: Path, preset: str | None) -> None:
    """UserError where a preset is given for a prior that describes itself."""
    if preset is not None:
        raise UserError(
            f"preset '{preset}' is for a .pt file of guided-diffusion, and '{path}' describes itself: leave the"
            " preset out"
        )


def _is_diffusers(path: Path) -> bool:
    return path.is_dir() or is_hub_name(path) or holds_weights(path)


def _kind(path: Path) -> Literal["ours", "adm", "kair"]:
    """Whose file it is, by its keys; UserError where nobody's."""
    try:
        content = (
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            if zipfile.is_zipfile(path)
            else read_checkpoint_file(path)
        )
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        OSError,
    ):
        content = read_checkpoint_file(path)  # which says what is wrong
    if isinstance(content, dict):
        if "prior" in content:
            return "ours"
        if is_adm(content):
            return "adm"
        if kair.is_kair(content):
            return "kair"
    raise UserError(
        f"'{path}' is neither a checkpoint that train.py wrote nor weights of guided-diffusion (input_blocks,"
        " middle_block, output_blocks) nor a denoiser in the layout of KAIR (model.0.weight, m_head.weight):"
        " docs/checkpoints.md tells what can be read"
    )
