"""A sweep file of W&B without a server: lists its combinations, runs them in a loop or as a SLURM job array, makes one
table of all runs.

    python sweep.py list configs/sweeps/ddpm_mnist_ablation.yaml
    python sweep.py run configs/sweeps/ddpm_mnist_ablation.yaml --jobs 2
    python sweep.py slurm configs/sweeps/ddpm_mnist_ablation.yaml --max_parallel 8 > sweep.sbatch
    python sweep.py table configs/sweeps/ddpm_mnist_ablation.yaml

With a server the same file is for `wandb sweep FILE` and `wandb agent ID`; see docs/wandb.md.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
import shlex
from pathlib import Path
from typing import Any, NoReturn

from common.errors import UserError, run_cli
from sweeps.check import check
from sweeps.expand import Sweep, read_sweep
from sweeps.run import Runner, command_of, selected
from sweeps.slurm import array_script
from sweeps.state import Places
from sweeps.table import write_table


class Parser(argparse.ArgumentParser):
    """Mistakes in one sentence; no abbreviated options, which hide a typing mistake."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def make_parser() -> Parser:
    parser = Parser(prog="sweep.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    common = Parser(add_help=False)
    common.add_argument("file", type=Path, metavar="FILE", help="a sweep file of W&B with method: grid")
    common.add_argument("--output", type=Path, metavar="DIR", help="folder of the runs (default: runs/sweeps/<file>)")

    listing = commands.add_parser("list", parents=[common], help="every combination: number, name, command")
    listing.add_argument("--only", metavar="PATTERN", help="those whose name contains or matches this")
    listing.add_argument("--check", action="store_true", help="put every combination through the real command line too")

    run = commands.add_parser("run", parents=[common], help="run them here; the same command again goes on")
    run.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes at once (default: 1)")
    run.add_argument(
        "--threads", type=_count, metavar="N", help="OMP_NUM_THREADS of each (default: the cores shared by the jobs)"
    )
    run.add_argument("--only", metavar="PATTERN", help="those whose name contains or matches this")
    run.add_argument("--number", type=int, metavar="K", help="the one with this number, as a task of a job array does")
    run.add_argument("--fingerprint", metavar="HASH", help="refuse if the file has changed since (job arrays)")
    run.add_argument(
        "--every_seconds", type=float, default=60, metavar="S", help="between two progress lines (default: 60)"
    )

    slurm = commands.add_parser(
        "slurm", parents=[common], help="print an sbatch script: a job array, one task a combination"
    )
    slurm.add_argument("--max_parallel", type=_count, metavar="N", help="tasks at once (default: no limit)")
    slurm.add_argument(
        "--time", default="24:00:00", metavar="T", help="limit of a task; it goes on in another (default: 24:00:00)"
    )
    slurm.add_argument(
        "--gpus",
        type=int,
        choices=(0, 1),
        default=1,
        help="of a task (default: 1); several for one run: configs/cluster/slurm.sh",
    )
    slurm.add_argument("--cpus", type=_count, default=8, metavar="N", help="for each task (default: 8)")
    slurm.add_argument("--memory", default="32G", metavar="M", help="for each task (default: 32G)")
    slurm.add_argument("--partition", metavar="NAME", help="where the cluster needs one")

    table = commands.add_parser(
        "table", parents=[common], help="one table of all runs: runs.csv and table.md in the output folder"
    )
    table.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="a metric of the runs; may be given several times (default: the sweep's)",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got '{text}'")
    return int(text)


def run(sweep: Sweep, args: argparse.Namespace) -> int:
    if args.fingerprint is not None and args.fingerprint != sweep.fingerprint:
        raise UserError(
            f"'{sweep.path}' has changed since the job array was made ({args.fingerprint} then, {sweep.fingerprint}"
            " now): make it again"
        )
    chosen = selected(sweep, only=args.only, number=args.number)
    if args.number is None:
        check(sweep, chosen)  # a mistake in the last combination shows now, not at its turn
    runner = Runner(
        sweep,
        Places(sweep, args.output),
        jobs=args.jobs,
        threads=args.threads,
        every_seconds=args.every_seconds,
        say=_say,
    )
    return runner.run(chosen)


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    args = make_parser().parse_args()
    sweep = read_sweep(args.file)
    places = Places(sweep, args.output)
    if args.command == "run":
        return run(sweep, args)
    if args.command == "list":
        chosen = selected(sweep, only=args.only)
        for c in chosen:
            print(
                f"{c.number:4d}  {c.name}  {places.state(c).status}\n      {shlex.join(command_of(sweep, c, places))}"
            )
        if args.check:
            check(sweep, chosen)
            print(f"{len(chosen)} combinations, all accepted by {chosen[0].words[0]}")
    elif args.command == "slurm":
        check(sweep)
        options = {k: getattr(args, k) for k in ("max_parallel", "time", "gpus", "cpus", "memory", "partition")}
        (places.output / ".sweep").mkdir(parents=True, exist_ok=True)  # sbatch makes no folder for its log files
        print(array_script(sweep, places, **options), end="")
    else:
        text, path = write_table(sweep, places, list(dict.fromkeys([sweep.metric, *args.metric])))
        print(f"{text}\n{path}")
    return 0


if __name__ == "__main__":
    run_cli(main)
