"""Restores one's own damaged picture: python restore.py IN.png [--mask M.png | --factor 4 | --degradation NAME]
[--method NAME] --output DIR

    python restore.py noisy.png --output restored                                   noise alone, its level estimated, by
    a deep image prior python restore.py noisy.png --sigma_255 25 --truth clean.png --output restored  noise of a known
    level; PSNR and SSIM are printed python restore.py photo.png --mask holes.png --output restored
    white = known, black = missing python restore.py small.png --factor 4 --output restored
    super-resolution; --kernel says how it was made small python restore.py digit.png --mask holes.png --method dps
    --prior PATH --output restored python restore.py blurred.png --method cold --prior runs/NAME/checkpoints/last.ckpt
    --output restored     a cold restorer, severity estimated

Any size, grey or colour, 8 or 16 bits, alpha kept. Writes into DIR restored.png, comparison.png (what was given beside
what was restored), iterates.png and curve.png, curve.csv (how a method got there). --list_methods and
--list_degradations show what there is, with all options; docs/user_image.md shows how.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
from pathlib import Path
from typing import Any

from common.command_line import Parser
from common.errors import UserError, nearest, run_cli

PRIOR = Path(__file__).resolve().parent / "assets" / "ddpm_mnist.safetensors"


def make_parser() -> Parser:
    """The command line; --method.NAME and --degradation.NAME are left to :func:`split_options`."""
    parser = Parser(
        prog="restore.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog=(
            "Options of the method and of the degradation: --method.scale=0.3, --degradation.std=1.5. Values are YAML."
        ),
    )
    parser.add_argument(
        "picture", nargs="?", type=Path, metavar="IN.png", help="the damaged picture: grey or colour, 8 or 16 bits"
    )
    parser.add_argument(
        "--method", metavar="NAME", help="how to restore it; see --list_methods (default: dip, which needs no prior)"
    )
    parser.add_argument(
        "--degradation",
        metavar="NAME",
        help="what happened to it, before --mask; see --list_degradations (default: identity, which is noise alone)",
    )
    parser.add_argument(
        "--mask", type=Path, metavar="FILE", help="pixels of it are missing: a picture, white = known, black = missing"
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
    from common.yaml_files import override

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


def main() -> None:
    parser = make_parser()
    args, rest = parser.parse_known_args()
    options = split_options(rest, [option for action in parser._actions for option in action.option_strings])
    from inference.catalogue import catalogue, degradations, listing
    from restoration.base import Method

    known = catalogue("restoration", Method)
    if args.list_methods or args.list_degradations:
        print(listing(known, "method") if args.list_methods else listing(degradations(), "degradation"))
        return
    for name, value in {"IN.png": args.picture, "--output": args.output}.items():
        if value is None:
            raise UserError(f"{name} is missing; see --help, --list_methods and --list_degradations")
    if args.num_samples < 1:
        raise UserError(f"--num_samples must be at least 1, got {args.num_samples}")
    if args.resize and args.any_size:
        raise UserError("--resize and --any_size exclude each other: give one of them")
    if not (args.method in known and known[args.method].needs_prior):
        for option, value in {
            "--prior": args.prior,
            "--preset": args.preset,
            "--adapter": next(iter(args.adapter), None),
        }.items():
            if value is not None:
                with_prior = ", ".join(name for name, method in known.items() if method.needs_prior)
                raise UserError(
                    f"{option} {value} is given, and --method {args.method or 'dip'} uses none: choose a method that"
                    f" does ({with_prior})"
                )

    from checkpoints.prior_options import adapters_of
    from inference.degradation_options import degradation_options
    from inference.restore_one import Request, restore_one

    name, chosen = degradation_options(
        args.degradation, options["degradation"], mask=args.mask, factor=args.factor, kernel=args.kernel
    )
    given = {
        k: v
        for k, v in vars(args).items()
        if k not in ("mask", "factor", "kernel", "adapter", "list_methods", "list_degradations")
    }
    given.update(
        method=args.method or "dip", degradation=name, prior=args.prior or PRIOR, adapters=adapters_of(args.adapter)
    )
    for line in restore_one(Request(**given, method_options=options["method"], degradation_options=chosen)):
        print(line)


if __name__ == "__main__":
    run_cli(main)
