"""The words of restore.py, and the options of method and degradation beside them. Imports nothing heavy."""

import argparse
from pathlib import Path
from typing import Any

from common.command_line import Parser
from common.errors import UserError, nearest
from common.noise_level import refuse_loud
from common.yaml_files import override


def make_parser(description: str | None = None) -> Parser:
    """The command line; --method.NAME and --degradation.NAME are left to :func:`split_options`."""
    parser = Parser(
        prog="restore.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog=(
            "Options of the method and of the degradation: --method.scale=0.3, --degradation.std=1.5. Values are YAML."
        ),
    )
    parser.add_argument(
        "picture",
        nargs="?",
        type=Path,
        metavar="IN.png",
        help="the damaged picture: grey or colour, 8 or 16 bits; or a folder of pictures",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="how to restore it; see --list_methods (default: dip, which needs no prior; plug_and_play with a --prior)",
    )
    parser.add_argument(
        "--degradation",
        metavar="NAME",
        help=(
            "what happened to it, before --factor and --mask; see --list_degradations, or the file of a blur's kernel"
            " (default: identity, which is noise alone)"
        ),
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="pixels of it are missing: a picture, white = known, black = missing; or a folder of such",
    )
    parser.add_argument("--factor", type=int, metavar="F", help="it was made smaller by this factor: super-resolution")
    parser.add_argument(
        "--kernel",
        metavar="NAME",
        help="how it was made smaller: lanczos2, lanczos3, bicubic or average (default: lanczos2)",
    )
    parser.add_argument(
        "--sigma_255",
        type=float,
        metavar="S",
        help="standard deviation of its noise in grey levels; 0 is none (default: estimated)",
    )
    parser.add_argument("--truth", type=Path, metavar="FILE", help="the undamaged picture: PSNR and SSIM are printed")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--prior",
        type=Path,
        metavar="PATH",
        help="a checkpoint, or a foreign checkpoint: docs/checkpoints.md (default: the MNIST prior)",
    )
    parser.add_argument(
        "--weights",
        choices=("ema", "raw"),
        default="ema",
        help="averaged or raw weights of a checkpoint (default: ema)",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="what a .pt of guided-diffusion does not say: ffhq_256, imagenet_256_uncond ...",
    )
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="PATH[=SCALE]",
        help="an adapter beside the prior (docs/lora.md); repeatable",
    )
    parser.add_argument(
        "--resize", action="store_true", help="make a picture as large as the pictures that the prior was trained on"
    )
    parser.add_argument(
        "--any_size", action="store_true", help="use the prior on a picture of another size than it was trained on"
    )
    parser.add_argument(
        "--num_samples", type=int, default=1, metavar="N", help="how many restorations to draw (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed draws others (default: 0)")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: cuda where there is one)"
    )
    parser.add_argument("--list_methods", action="store_true", help="list the methods with their options, and stop")
    parser.add_argument(
        "--list_degradations", action="store_true", help="list the degradations with their options, and stop"
    )
    return parser


def split_options(rest: list[str], known: list[str]) -> dict[str, Any]:
    """{"method": {"scale": 0.3}, "degradation": {}} from --method.scale=0.3, or with the value as the next word."""
    options: dict[str, Any] = {"method": {}, "degradation": {}}
    words = iter(rest)
    for word in words:
        key, equal, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or key.partition(".")[0] not in options or "." not in key:
            hint = (
                "options of a method are written --method.NAME=VALUE"
                if word.startswith("--")
                else "one picture at a time"
            )
            raise UserError(f"'{word}' is not known{nearest(word.partition('=')[0], known)}: {hint}; see --help")
        value = value if equal else next(words, None)
        if value is None:
            raise UserError(f"{word} has no value: write {word}=VALUE")
        options = override(options, key, value)
    return options


def refuse_at_once(args: argparse.Namespace) -> None:
    """UserError for what can be seen without looking at a picture or a method."""
    for name, value in {"IN.png": args.picture, "--output": args.output}.items():
        if value is None:
            raise UserError(f"{name} is missing; see --help, --list_methods and --list_degradations")
    if args.num_samples < 1:
        raise UserError(f"--num_samples must be at least 1, got {args.num_samples}")
    if args.seed < 0:
        raise UserError(f"--seed must be at least 0, got {args.seed}")
    if args.sigma_255 is not None:
        refuse_loud(args.sigma_255, "--sigma_255")
    if args.resize and args.any_size:
        raise UserError("--resize and --any_size exclude each other: give one of them")
