"""Restores one's own damaged picture: python restore.py IN.png [--mask M.png | --factor 4 | --degradation NAME]
[--method NAME] --output DIR

    python restore.py noisy.png --output restored
        noise alone, its level estimated, by a deep image prior
    python restore.py noisy.png --sigma_255 25 --truth clean.png --output restored
        noise of a known level; PSNR and SSIM are printed
    python restore.py photo.png --mask holes.png --output restored
        white = known, black = missing
    python restore.py small.png --factor 4 --output restored
        super-resolution; --kernel says how it was made small
    python restore.py digit.png --mask holes.png --method dps --prior PATH --output restored
        a trained prior
    python restore.py photo.png --degradation kernel.png --prior PATH --output restored
        blur by the kernel in a file, undone by plug-and-play with a denoiser
    python restore.py FOLDER --prior PATH --output restored
        every picture of a folder; what is finished is not done again
    python restore.py blurred.png --method cold --prior runs/NAME/checkpoints/last.ckpt --output restored
        a cold restorer, severity estimated

Any size, grey or colour, 8 or 16 bits, alpha kept. Writes into DIR restored.png, comparison.png (what was given beside
what was restored), iterates.png and curve.png, curve.csv (how a method got there). --list_methods and
--list_degradations show what there is, with all options; docs/user_image.md shows how.
"""

from pathlib import Path
from typing import Any

from common.errors import UserError, run_cli
from common.plain_warnings import plain_warnings
from common.private_names import option_strings
from common.stop_signals import answer_stop_signals
from inference.command_line import make_parser, refuse_at_once, split_options

ASSETS = Path(__file__).resolve().parent / "assets"
PRIOR = ASSETS / "ddpm_mnist.safetensors"
PHOTOGRAPHS = ASSETS / "denoiser_natural.safetensors"
OF_PHOTOGRAPHS = ("plug_and_play", "one_shot")  # methods whose prior that is, where it is there


def main() -> int:
    answer_stop_signals("the newest estimate is written where there is one; the same command again begins anew")
    parser = make_parser(__doc__)
    args, rest = parser.parse_known_args()
    options = split_options(rest, option_strings(parser))
    if not (args.list_methods or args.list_degradations):
        refuse_at_once(args)
    # Late: --help and mistakes on the command line answer before torch is imported.
    import common.torchvision_remedy  # noqa: F401  (before whatever imports torchvision)
    from inference.catalogue import catalogue, degradations, listing
    from restoration.base import Method

    known = catalogue("restoration", Method)
    if args.list_methods or args.list_degradations:
        print(listing(known, "method") if args.list_methods else listing(degradations(), "degradation"))
        return 0
    method = args.method or ("dip" if args.prior is None else "plug_and_play")
    if not (method in known and known[method].needs_prior):
        for option, value in {
            "--prior": args.prior,
            "--preset": args.preset,
            "--adapter": next(iter(args.adapter), None),
        }.items():
            if value is not None:
                with_prior = ", ".join(name for name, method in known.items() if method.needs_prior)
                raise UserError(
                    f"{option} {value} is given, and --method {method} uses none: choose a method that"
                    f" does ({with_prior})"
                )

    from checkpoints.prior_options import adapters_of
    from inference.degradation_options import degradation_options
    from inference.restore_folder import restore_folder
    from inference.restore_one import Request, restore_picture, tools_for

    def degraded(mask: Path | None) -> tuple[str, dict[str, Any]]:
        return degradation_options(
            args.degradation, options["degradation"], mask=mask, factor=args.factor, kernel=args.kernel
        )

    given = {
        k: v
        for k, v in vars(args).items()
        if k not in ("mask", "factor", "kernel", "adapter", "list_methods", "list_degradations")
    }
    name, chosen = ("identity", {}) if args.picture.is_dir() else degraded(args.mask)
    prior = args.prior or (PHOTOGRAPHS if method in OF_PHOTOGRAPHS and PHOTOGRAPHS.is_file() else PRIOR)
    given.update(method=method, degradation=name, prior=prior, adapters=adapters_of(args.adapter))
    request = Request(**given, method_options=options["method"], degradation_options=chosen)
    if args.picture.is_dir():
        with plain_warnings():
            lines = restore_folder(request, degraded, mask=args.mask)
        print(*lines, sep="\n")
        return 0
    with plain_warnings():
        outcome = restore_picture(request, tools_for(request))
    print(*outcome.lines(), sep="\n")
    return outcome.interrupted


if __name__ == "__main__":
    run_cli(main)
