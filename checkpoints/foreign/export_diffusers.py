"""A prior as a folder of diffusers: model_index.json, unet/, scheduler/ and a model card, written without diffusers."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch

from checkpoints.foreign.diffusers_config import unet_to_diffusers
from checkpoints.foreign.diffusers_files import SAFETENSORS
from checkpoints.foreign.diffusers_layout import state_dict_to_diffusers
from checkpoints.foreign.diffusers_scheduler import schedule_to_diffusers
from checkpoints.model_card import model_card
from checkpoints.prior import LoadedPrior
from common.errors import UserError
from diffusion.image_conditioning import ImageConditionedDenoiser
from networks.unet import UNet


def write_diffusers(
    folder: str | Path,
    prior: LoadedPrior,
    *,
    source: Path,
    weights: str = "ema",
    dtype: torch.dtype = torch.float32,
    tables: Sequence[Path] = (),
) -> Path:
    """Write the folder, whole or not at all; DDPMPipeline.from_pretrained opens it, and so does load_prior.

    source: the checkpoint, for the card. weights: which of its weights these are. dtype: float32 keeps every bit.
    tables: .csv files for the card. Raises UserError, before anything is written, for what diffusers cannot compute
    (patches, classes, conditioning images, EDM ...), by name, and for a folder that is not empty.
    """
    folder = Path(folder)
    denoiser, network = prior.denoiser, prior.denoiser.network
    if isinstance(denoiser, ImageConditionedDenoiser):
        raise UserError(
            "the prior takes a conditioning image beside the picture, which diffusers' DDPMPipeline cannot give: export"
            " it as .safetensors instead"
        )
    if not isinstance(network, UNet):
        raise UserError(
            f"the prior's network is a {type(network).__name__}, and only networks.unet.UNet can be written as a"
            " diffusers folder"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output '{folder}' exists and is not an empty folder: give another one, or remove it")
    scheduler = schedule_to_diffusers(denoiser)
    unet = unet_to_diffusers(network, size=denoiser.data_shape[1:])
    tensors = {
        name: value.detach().cpu().to(dtype).contiguous()
        for name, value in state_dict_to_diffusers(network.state_dict()).items()
    }
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f"the weight '{name}' is not finite as {str(dtype).removeprefix('torch.')}: export it with --dtype"
                " float32"
            )
    index = {
        "_class_name": "DDPMPipeline",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    card = model_card(
        prior, name=folder.name, source=source, weights=weights, dtype=str(dtype).removeprefix("torch."), tables=tables
    )

    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        for name, content in {
            "model_index.json": index,
            "unet/config.json": unet,
            "scheduler/scheduler_config.json": scheduler,
        }.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        safetensors.torch.save_file(tensors, beside / "unet" / SAFETENSORS, metadata={"format": "pt"})
        (beside / "README.md").write_text(card, encoding="utf-8")
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder
