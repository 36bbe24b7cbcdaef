"""Priors of OpenAI's guided-diffusion: a .pt file of weights, and flags from a preset or from a YAML file beside it."""

from dataclasses import asdict
from pathlib import Path

import torch

from checkpoints.files import read_checkpoint_file
from checkpoints.foreign.adm_flags import PRESETS, Flags, flags_for
from checkpoints.foreign.adm_layout import network_of_adm, state_dict_from_adm
from checkpoints.foreign.base import ForeignPrior, digest_of, only_tensors
from common.errors import UserError
from networks.unet import UNet


def read_adm(path: str | Path, *, preset: str | None = None) -> ForeignPrior:
    """The prior in a .pt file of guided-diffusion (ADM, ILVR, P2 weighting; improved-diffusion too), learned variance
    and classes included.

    preset: what the file does not say, see checkpoints/foreign/adm_flags.py.
    Raises UserError for a file that would run code, missing and unexpected keys by name, flags that the weights
    contradict.
    """
    path = Path(path)
    where = f"the prior '{path}'"
    state = only_tensors(read_checkpoint_file(path), path)
    shown = network_of_adm(state, where)
    flags, read = flags_for(path, preset)
    if wrong := flags.disagreements(shown):
        fitting = [name for name, values in PRESETS.items() if not Flags(**values).disagreements(shown)]
        advice = (
            f"presets that agree with the weights: {', '.join(fitting)}"
            if fitting
            else "no preset agrees with the weights"
        )
        source = f"the preset '{preset}'" if preset is not None else f"'{read[0]}'"
        raise UserError(f"{source} is not that of '{path}': {'; '.join(wrong)}; {advice}")
    if flags.image_size % 2 ** (len(shown["multipliers"]) - 1):
        raise UserError(
            f"{where}: image_size {flags.image_size} cannot be halved {len(shown['multipliers']) - 1} times, as the"
            " network does"
        )
    network = {**shown, **flags.heads, "dropout": flags.dropout}
    if flags.rescale_timesteps:
        network["time_scale"] = 1000 / flags.diffusion_steps
    if network["num_classes"] is None:
        del network["num_classes"], network["null_class"]
    with torch.device("meta"):
        expected = UNet(**network).state_dict()
    told = {name: value for name, value in asdict(flags).items() if value is not None}
    return ForeignPrior(
        network=network,
        tensors=state_dict_from_adm(
            state, network=network, expected=expected, new_order=flags.use_new_attention_order, where=where
        ),
        schedule=flags.schedule,
        prediction="x0" if flags.predict_xstart else "epsilon",
        variance="learned_range" if network["out_channels"] == 2 * network["in_channels"] else "fixed",
        shape=(network["in_channels"], flags.image_size, flags.image_size),
        digest=digest_of([path], *(f"{name}={told[name]}" for name in sorted(told))),
        where=where,
        data=flags.data,
        training={"source": "guided-diffusion", "flags": told},
    )
