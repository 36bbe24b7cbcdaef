"""Writes a released prior: python -m checkpoints.export runs/NAME/checkpoints/last.ckpt OUT

... last.ckpt prior.safetensors
    one file of ours, in half precision; --card writes prior.md beside it: hash, config, images seen, curve
... last.ckpt FOLDER --format diffusers
    a folder that diffusers' DDPMPipeline.from_pretrained opens, with a model card
... ffhq_10m.pt prior.safetensors --preset ffhq_256
    any prior that --prior takes may be given: of diffusers, of guided-diffusion
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from checkpoints.asset_card import asset_card
from checkpoints.files import write_safetensors
from checkpoints.foreign.export_diffusers import write_diffusers
from checkpoints.load import describes_cold_restorer, load_cold_restorer, load_prior
from common.errors import UserError, run_cli
from common.files import sha256_of, write_atomically

DTYPES = {"float16": torch.float16, "float32": torch.float32}


def which_weights(path: Path, description: dict[str, Any], asked: str) -> str:
    """What a file says of its weights: a released one has one set, whatever was asked for, and says which; a .ckpt has
    both.
    """
    if "source" in (description.get("training") or {}):
        return "as released by others"
    return description.get("weights", asked) if path.suffix == ".safetensors" else asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt that train.py wrote, or another prior")
    parser.add_argument(
        "output", type=Path, help="the .safetensors file to write, or the folder for --format diffusers"
    )
    parser.add_argument("--format", choices=("safetensors", "diffusers"), default="safetensors")
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema", help="of a .ckpt (default: ema)")
    parser.add_argument(
        "--dtype", choices=tuple(DTYPES), help="default: float16 for safetensors, float32 for diffusers"
    )
    parser.add_argument(
        "--preset", metavar="NAME", help="what a .pt file of guided-diffusion does not say; see docs/checkpoints.md"
    )
    parser.add_argument(
        "--metrics",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE.csv",
        help="tables for the card",
    )
    parser.add_argument(
        "--card", action="store_true", help="of a .safetensors file: write a page about it beside it, OUTPUT.md"
    )
    parser.add_argument(
        "--note", action="append", default=[], metavar="TEXT", help="a sentence for the card; may be given repeatedly"
    )
    args = parser.parse_args()
    folder = args.format == "diffusers"
    dtype = args.dtype or ("float32" if folder else "float16")
    if not folder and args.output.suffix != ".safetensors":
        raise UserError(
            f"output must end in .safetensors, got '{args.output}'; for a folder of diffusers add --format diffusers"
        )
    if not folder and not args.card and (args.metrics or args.note):
        raise UserError(
            "--metrics and --note are for the card of --card or of --format diffusers: add one of them, or leave them"
            " out"
        )
    if folder and (args.card or args.note):
        raise UserError("--card and --note are for .safetensors files: --format diffusers always writes a card")
    if describes_cold_restorer(args.checkpoint, weights=args.weights):
        if folder:
            raise UserError(
                f"'{args.checkpoint}' is a cold restorer, which diffusers has no pipeline for: export it as"
                " .safetensors"
            )
        cold = load_cold_restorer(args.checkpoint, weights=args.weights)
        network, description = cold.restorer.network, cold.description
    else:
        prior = load_prior(args.checkpoint, weights=args.weights, preset=args.preset)
        network, description = prior.denoiser.network, prior.description
    which = which_weights(args.checkpoint, description, args.weights)
    if folder:
        written = write_diffusers(
            args.output, prior, source=args.checkpoint, weights=which, dtype=DTYPES[dtype], tables=args.metrics
        )
        print(
            f"{written}  {sum(p.stat().st_size for p in written.rglob('*') if p.is_file())} bytes, with README.md: look"
            " it through, and add a licence"
        )
        return
    write_safetensors(args.output, network, {**description, "weights": which, "dtype": dtype}, dtype=DTYPES[dtype])
    if args.card:
        card = asset_card(
            network,
            description,
            source=args.checkpoint,
            output=args.output,
            weights=which,
            dtype=dtype,
            tables=args.metrics,
            notes=args.note,
        )
        write_atomically(args.output.with_suffix(".md"), card)
    print(f"{args.output}  {args.output.stat().st_size} bytes  sha256 {sha256_of(args.output)}")


if __name__ == "__main__":
    run_cli(main)
