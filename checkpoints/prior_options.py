"""--prior, --weights, --preset and --adapter: the same words in every command that takes a prior."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from checkpoints.cold_restorer import LoadedColdRestorer
from checkpoints.load import load_cold_restorer, load_prior
from checkpoints.lora.apply import adapt
from checkpoints.lora.files import AdapterEntry
from checkpoints.prior import LoadedPrior
from common.errors import UserError

WHAT = "a .ckpt or .safetensors, a folder of diffusers, a .pt of guided-diffusion, a .pth of KAIR"


def add_prior_options(
    parser: argparse.ArgumentParser, *, required: bool = True, restorer: bool = False, of: str = WHAT
) -> None:
    """The options, --preset only where the prior is no cold restorer. of: what --prior takes; what they mean is told by
    the functions below.
    """
    parser.add_argument("--prior", type=Path, required=required, metavar="PATH", help=of)
    parser.add_argument(
        "--weights",
        choices=("ema", "raw"),
        default="ema",
        help="averaged or raw weights of a checkpoint (default: ema)",
    )
    if not restorer:
        parser.add_argument(
            "--preset",
            metavar="NAME",
            help="what a foreign file does not say: ffhq_256, imagenet_256_uncond ... dncnn_25",
        )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="PATH[=SCALE]",
        help="an adapter beside the prior (docs/lora.md); repeatable",
    )


def adapters_of(words: Sequence[str]) -> tuple[AdapterEntry, ...]:
    """The adapters that --adapter names: PATH, or PATH=SCALE; UserError for a scale that is not a finite number."""
    return tuple(map(_adapter_of, words))


def prior_of_options(args: argparse.Namespace, device: torch.device | str = "cpu") -> LoadedPrior:
    """The denoiser that the options name, its adapters merged into its weights; UserError for whatever does not fit."""
    found = load_prior(args.prior, weights=args.weights, device=device, preset=args.preset)
    added = adapt(found.denoiser.network, adapters_of(args.adapter), weights=args.weights)
    return replace(found, fingerprint=found.fingerprint + added)


def restorer_of_options(args: argparse.Namespace, device: torch.device | str = "cpu") -> LoadedColdRestorer:
    """The cold restorer that the options name, likewise."""
    found = load_cold_restorer(args.prior, weights=args.weights, device=device)
    added = adapt(found.restorer.network, adapters_of(args.adapter), weights=args.weights)
    return replace(found, fingerprint=found.fingerprint + added)


def _adapter_of(word: str) -> AdapterEntry:
    path, equal, number = word.rpartition("=")
    if not equal or Path(word).exists():
        return AdapterEntry(path=word)
    try:
        scale = float(number)
    except ValueError as error:
        raise UserError(
            f"--adapter '{word}': '{number}' is no scale, give PATH or PATH=SCALE as in runs/NAME/adapter=0.5"
        ) from error
    if not math.isfinite(scale) or not path:
        raise UserError(f"--adapter '{word}': give PATH or PATH=SCALE with a finite scale, as in runs/NAME/adapter=0.5")
    return AdapterEntry(path=path, scale=scale)
