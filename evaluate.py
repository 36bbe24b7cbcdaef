"""Compare restoration methods on the same measurements, or samplers by what they draw: tables with intervals, image
sheets, a report.

    python evaluate.py --config configs/evaluate/mnist.yaml
    python evaluate.py --config configs/evaluate/generation_mnist.yaml --prior runs/mine/checkpoints/last.ckpt
    python evaluate.py --config configs/evaluate/mnist.yaml --dry_run
    python evaluate.py --config configs/evaluate/mnist.yaml --limit 100 --methods.dps.init_args.scale=0.5
    --tasks.box=null --output results/try

The same command again goes on where it was interrupted and never restores an image twice.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from common.command_line import Parser
from common.errors import EXIT_PREEMPTED, UserError, fail, nearest, run_cli
from common.wandb_options import agent_part


def make_parser() -> Parser:
    """The command line; whatever it does not know is an override of the configuration."""
    parser = Parser(
        prog="evaluate.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog=(
            "Any entry of the configuration can be changed: --tasks.NAME.noise.sigma_255=6,"
            " --methods.NAME.num_samples=4, --methods.NAME=null (removes it), --seed=1, --batch_size=16,"
            " --skip_unsupported=true (leaves out what cannot work). Values are YAML."
        ),
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="a YAML file; given several times, later ones change earlier ones",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where results go (default: results/<name of the last config>)"
    )
    parser.add_argument("--limit", type=_at_least_one, metavar="N", help="only the first N images")
    parser.add_argument(
        "--prior",
        metavar="PATH",
        help="the checkpoint of the prior 'default', or a foreign checkpoint (docs/checkpoints.md)",
    )
    parser.add_argument(
        "--devices",
        type=_at_least_one,
        default=1,
        metavar="N",
        help="processes on this machine, each with its own share of images (default: 1)",
    )
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda where there is one"
    )
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="of the network (default: 32)")
    parser.add_argument(
        "--dry_run", action="store_true", help="list the cells, refuse what cannot work, estimate the cost; run nothing"
    )
    parser.add_argument(
        "--metrics_only",
        action="store_true",
        help="compute the metrics anew from DIR/restored, without restoring again",
    )
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got '{text}'")
    return int(text)


def split_overrides(rest: list[str], known: list[str]) -> list[tuple[str, str]]:
    """[("methods.dps.init_args.scale", "0.5")] from --methods.dps.init_args.scale=0.5, or with the value as the next
    word.
    """
    found, words = [], iter(rest)
    for word in words:
        if not word.startswith("--"):
            raise UserError(
                f"'{word}' is not an option: options begin with --, and a configuration is given by --config FILE"
            )
        key, equal, value = word[2:].partition("=")
        if not equal:
            value = next(words, None)
            if value is None or value.startswith("--"):
                raise UserError(f"{word} has no value, or is not an option{nearest(word, known)}; write {word}=VALUE")
        found.append((key, value))
    return found


def main() -> None:
    signal.signal(signal.SIGTERM, _stop)
    parser = make_parser()
    args, rest = parser.parse_known_args()
    known = [option for action in parser._actions for option in action.option_strings]
    overrides = split_overrides(rest, known)
    if not args.config:
        raise UserError("--config is missing: give a file such as configs/evaluate/mnist.yaml; see --help")
    if args.limit is not None:
        overrides.append(("limit", str(args.limit)))
    if args.prior is not None:
        overrides.append(("priors.default.path", f"'{args.prior}'"))
    # Imported late: --help and mistakes on the command line answer at once.
    from evaluation.config import read_config
    from evaluation.generation.config import is_generation, read_generation_config
    from evaluation.run import Options

    generation = is_generation(args.config)
    if generation and args.metrics_only:
        raise UserError(
            "--metrics_only is for restorations: without it, this command too draws nothing again and rebuilds table"
            " and report"
        )
    try:
        config = (read_generation_config if generation else read_config)(args.config, overrides)
    except UserError as error:
        raise UserError(_with_nearest(str(error), known)) from error
    last = Path(args.config[-1])
    output = (
        args.output or Path("results") / (last.parent.name if last.stem == "evaluate" else last.stem) / agent_part()
    )
    options = Options(
        output=output,
        devices=args.devices,
        accelerator=args.accelerator,
        precision=args.precision,
        metrics_only=args.metrics_only,
    )
    if generation:
        from evaluation.generation.run import dry_run, evaluate
    else:
        from evaluation.run import dry_run, evaluate
    (dry_run if args.dry_run else evaluate)(config, options)


def _with_nearest(message: str, known: list[str]) -> str:
    """An unknown option may be meant as one of the command line, which the configuration does not know of."""
    start = "there is no option "
    if not message.startswith(start) or "did you mean" in message:
        return message
    word = message[len(start) :].split(";")[0]
    return message.replace(word, word + nearest(word, known), 1)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    fail("stopped by SIGTERM; run the same command again to go on")
    sys.exit(EXIT_PREEMPTED)


if __name__ == "__main__":
    run_cli(main)
