"""The words of evaluate.py: its options, and overrides of the configuration beside them. Imports nothing heavy."""

import argparse
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, nearest


def make_parser(description: str = "") -> Parser:
    """The command line; whatever it does not know is an override of the configuration."""
    parser = Parser(
        prog="evaluate.py",
        description=description,
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


def with_nearest(message: str, known: list[str]) -> str:
    """An unknown option may be meant as one of the command line, which the configuration does not know of."""
    start = "there is no option "
    if not message.startswith(start) or "did you mean" in message:
        return message
    word = message[len(start) :].split(";")[0]
    return message.replace(word, word + nearest(word, known), 1)
