"""Compare restoration methods on the same measurements, or samplers by what they draw: tables with intervals, image
sheets, a report.

    python evaluate.py --config configs/evaluate/mnist.yaml
    python evaluate.py --config configs/evaluate/generation_mnist.yaml --prior runs/mine/checkpoints/last.ckpt
    python evaluate.py --config configs/evaluate/mnist.yaml --dry_run
    python evaluate.py --config configs/evaluate/mnist.yaml --prepare   # on a node with a network
    python evaluate.py --config configs/evaluate/mnist.yaml --limit 100 --tasks.box=null --output results/try
    python evaluate.py --config configs/evaluate/mnist.yaml --shard 0/4      (one of four jobs; --merge joins them)

The same command again goes on where it was interrupted and never restores an image twice.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from common.config_place import with_place
from common.errors import UserError, run_cli
from common.plain_warnings import plain_warnings
from common.private_names import option_strings
from common.stop_signals import answer_stop_signals
from common.wandb_options import agent_part
from evaluation.command_line import make_parser, overrides_of, refuse_with_shards, with_nearest
from evaluation.shard import shard_of_launcher


def main() -> int | None:
    answer_stop_signals()
    parser = make_parser(__doc__)
    args, rest = parser.parse_known_args()
    known = option_strings(parser)
    overrides = overrides_of(args, rest, known)
    if not args.config:
        raise UserError("--config is missing: give a file such as configs/evaluate/mnist.yaml; see --help")
    # Late, and in this order: --help and mistakes on the command line or in YAML answer before torch is imported.
    from common.yaml_files import read_yaml

    for path in args.config:
        read_yaml(path)
    import common.torchvision_remedy  # noqa: F401  (before whatever imports torchvision)
    from evaluation.config import read_config
    from evaluation.generation.config import is_generation, read_generation_config

    generation = is_generation(args.config)
    shard = None if args.merge is not None else args.shard or shard_of_launcher(os.environ)
    refuse_with_shards(args, shard, generation=generation)
    if generation and args.metrics_only:
        raise UserError(
            "--metrics_only is for restorations: without it, this command too draws nothing again and rebuilds table"
            " and report"
        )
    try:
        config = (read_generation_config if generation else read_config)(args.config, overrides)
    except UserError as error:
        raise UserError(with_nearest(str(error), known)) from error
    if args.prepare:
        from evaluation.prepare import prepare

        return prepare(config, [word for word in sys.argv[1:] if word != "--prepare"])
    last = Path(args.config[-1])
    output = (
        args.output or Path("results") / (last.parent.name if last.stem == "evaluate" else last.stem) / agent_part()
    )
    from evaluation.run import Options

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
    run: Any = dry_run if args.dry_run else evaluate  # of the kind of config that was read
    if not generation and not args.dry_run and (shard is not None or args.merge is not None):
        from evaluation.shard_run import evaluate_merged, evaluate_shard

        run = (
            partial(evaluate_merged, parts=args.merge or ()) if shard is None else partial(evaluate_shard, shard=shard)
        )
    try:
        with plain_warnings():  # of a dry run, and of what is drawn, too
            run(config, options)
    except UserError as error:
        raise UserError(with_place(str(error), sys.argv[1:])) from error
    return None


if __name__ == "__main__":
    run_cli(main)
