"""The words of evaluate.py: its options, and overrides of the configuration beside them. Imports nothing heavy."""

import argparse
from pathlib import Path

from common.command_line import Parser, at_least_one
from common.errors import UserError, nearest
from evaluation.shard import Shard, parse_shard

#: Keys of a configuration, with what each says; a test compares them with the classes that read them.
RESTORATION_KEYS = {
    "data": "the data set, {class_path, init_args}: a class of datamodules/",
    "split": "which of its images: train, validation or test (default)",
    "tasks": "by name: degradation, {class_path, init_args}, and noise, with one of sigma, sigma_255, sigma_unit",
    "methods": "by name: class_path and init_args of a class of restoration/, prior, num_samples, tasks, limit,"
    " per_task",
    "priors": "by name: path, weights (ema, raw), adapters, preset; methods use the one called default",
    "metrics": "by name: class_path of a class of metrics/; null removes one",
    "features": "the network of the metrics that compare sets; with it come FID and KID",
    "seed": "of all noise and masks (default 0)",
    "limit": "only the first so many images; null (default): all",
    "batch_size": "images restored at once (default 64); memory, not results",
    "skip_unsupported": "true leaves out what a method cannot do instead of refusing it (default false)",
    "any_size": "true uses a prior on images of another size than it was trained on (default false: refused)",
    "title": "of the report",
    "wandb": "where the table is logged: mode, project, group, tags",
}
GENERATION_KEYS = {
    "data": "the data set that drawn images are compared with",
    "samplers": "by name: class_path of a class of diffusion/samplers/, steps, spacing, prior, guidance, label",
    "features": "the network whose features are compared",
    "priors": "as above",
    "reference": "the split that is the reference: train (default) or test",
    "reference_images": "only so many of it, at least 2; null (default): all",
    "real_images": "a row for what real images reach (default true)",
    "metrics": "by name: class_path of metrics of sets",
    "num_images": "drawn by every sampler and number of steps (default 10,000)",
    "seed": "of all noise (default 0)",
    "batch_size": "images drawn at once (default 100); memory, not results",
    "title": "of the report",
    "wandb": "as above",
}


def _listed(title: str, keys: dict[str, str]) -> str:
    return "\n".join([title, *(f"  {key:<18}{text}" for key, text in keys.items())])


def make_parser(description: str | None = None) -> Parser:
    """The command line; whatever it does not know is an override of the configuration."""
    parser = Parser(
        prog="evaluate.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="\n\n".join(
            [
                _listed("keys of a configuration that restores (docs/evaluation.md):", RESTORATION_KEYS),
                _listed("keys of a configuration that generates (docs/generation.md):", GENERATION_KEYS),
                "Any entry can be changed on the command line; values are YAML: --tasks.NAME.noise.sigma_255=6,\n"
                "--methods.NAME.num_samples=4, --methods.NAME=null (removes it), --seed=1, --skip_unsupported=true",
            ]
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
    parser.add_argument("--limit", type=at_least_one, metavar="N", help="only the first N images")
    parser.add_argument(
        "--prior",
        metavar="PATH",
        help="the checkpoint of the prior 'default', or a foreign checkpoint (docs/checkpoints.md)",
    )
    parser.add_argument(
        "--any_size", action="store_true", help="use a prior on images of another size than it was trained on"
    )
    parser.add_argument(
        "--devices",
        type=at_least_one,
        default=1,
        metavar="N",
        help="processes on this machine, each with its own share of images (default: 1)",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="restore share I (0 to N - 1) of N only, for job arrays; the last one joins them (srun and torchrun: by"
        " itself)",
    )
    parser.add_argument(
        "--merge",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="join the shards of --output, or these folders, and write the tables",
    )
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda where there is one"
    )
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="of the network (default: 32)")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="list the cells, refuse what cannot work, time a few steps of each and estimate the cost; restore nothing",
    )
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="list every weight and data set that the configuration needs and fetch what is missing, on a node with a"
        " network; evaluate nothing. Exit code 1 where something could not be had",
    )
    parser.add_argument(
        "--metrics_only",
        action="store_true",
        help="compute the metrics anew from DIR/restored, without restoring again",
    )
    return parser


def overrides_of(args: argparse.Namespace, rest: list[str], known: list[str]) -> list[tuple[str, str]]:
    """(dotted path, YAML value) of all that the command line changes in the configuration."""
    overrides = split_overrides(rest, known)
    if args.limit is not None:
        overrides.append(("limit", str(args.limit)))
    if args.prior is not None:
        overrides.append(("priors.default.path", f"'{args.prior}'"))
    if args.any_size:
        overrides.append(("any_size", "true"))
    return overrides


def refuse_with_shards(args: argparse.Namespace, shard: Shard | None, *, generation: bool) -> None:
    """UserError for options that do not go with a share of an evaluation, or with joining shares."""
    if shard is None and args.merge is None:
        return
    name = "--merge" if args.merge is not None else "--shard" if args.shard else "srun or torchrun with several tasks"
    if args.merge is not None and args.shard is not None:
        raise UserError("--merge joins shards that have ended, --shard restores one: give one of them")
    if generation:
        raise UserError(f"{name} is for restorations: a config that draws samples runs with --devices N")
    if args.metrics_only:
        raise UserError(f"{name} does not go with --metrics_only: join the shards first, with --merge")
    if args.devices > 1:
        raise UserError(f"{name} is one process: give --devices 1 and as many shards as there are devices")


def _shard(text: str) -> Shard:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
