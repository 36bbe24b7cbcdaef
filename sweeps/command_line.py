"""The words of sweep.py. Imports nothing heavy."""

import argparse
from pathlib import Path

from common.command_line import Parser


def make_parser(description: str | None = None) -> Parser:
    parser = Parser(prog="sweep.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
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
