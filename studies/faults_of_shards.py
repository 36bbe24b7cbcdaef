"""An evaluation in three shards, killed at random moments, continued and merged: is its table that of one which was
left alone?

    python -m studies.faults_of_shards --output results/faults_of_shards
    python -m studies.faults_of_shards --kills 5 --limit 12 --seed 1 --output results/few

Three processes restore at once. Whenever another share of the rows is there, one of those that run is killed (SIGKILL)
after a delay that is drawn, and started again; where all have ended, so that only joining is left, one of them is
started again and killed there. Then what is missing is finished, and `evaluate.py --merge` joins everything.
OUTPUT/kills.csv has a row for each kill with the state that it left, OUTPUT/kills.md the table and what is compared.
Processes are forked from one that has imported everything: a kill meets the work, not the imports. Needs Linux.
"""

import argparse
import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from common.private_names import option_strings
from evaluation.command_line import make_parser, overrides_of
from evaluation.shard import Shard, shard_folder

ROOT = Path(__file__).parents[1]
SHARDS = 3
LONGEST_DELAY = 0.15  # seconds between the share of rows and the kill
LONGEST_START = 2.0  # the same for a process that was started to be killed
#: Seconds and memory are measured, and differ from run to run.
MEASURED = ("seconds", "peak_mb", "memory", "chains")


@dataclass(frozen=True)
class Kill:
    """What a kill met. rows: whole ones of the shard, in all its files; torn: a row that is cut off; pictures: those
    without a row; parts: files that were being written; merging: whether nothing was left to restore.
    """

    number: int
    shard: int
    rows: int
    torn: bool
    pictures: int
    parts: int
    merging: bool


def main() -> None:
    parser = Parser(
        prog="python -m studies.faults_of_shards",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="configs/evaluate/mnist.yaml", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--limit", type=int, default=24, metavar="N", help="images (default: %(default)s)")
    parser.add_argument(
        "--methods", default="total_variation,pseudo_inverse", help="of the config (default: %(default)s)"
    )
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of moments and shards (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("results/faults_of_shards"), metavar="DIR", help="default: %(default)s"
    )
    args = parser.parse_args()
    if args.limit < SHARDS or args.kills < 1:
        raise UserError(f"--limit must be at least {SHARDS} and --kills at least 1, got {args.limit} and {args.kills}")
    words = options_of(args)
    folder = require_writable_folder(args.output, "--output")
    if any((folder / name).exists() for name in ("whole", "killed")):
        raise UserError(f"--output '{folder}' holds another trial: give a new folder, or remove it")
    begin = time.process_time()
    # Alone, as a user would, before this process imports torch.
    command("evaluate.py", *words, "--output", str(folder / "whole"))
    kills = disturb(words, folder / "killed", args.kills, random.Random(args.seed))
    command("evaluate.py", *words, "--output", str(folder / "killed"), "--merge")
    wrong = differences(folder / "whole", folder / "killed")
    write(folder, kills, wrong)
    print((folder / "kills.md").read_text())
    print(f"{time.process_time() - begin:.0f} CPU seconds in this process")
    if wrong:
        raise UserError(f"{len(wrong)} files differ from those of the evaluation that was left alone: {wrong[0]}")


def options_of(args: argparse.Namespace) -> list[str]:
    """Of evaluate.py: the methods that are asked for, and batches so small that every shard has many."""
    from common.yaml_files import read_yaml

    methods = read_yaml(args.config).get("methods") or {}
    wanted = args.methods.split(",")
    if unknown := [name for name in wanted if name not in methods]:
        raise UserError(f"--methods: '{args.config}' has no '{unknown[0]}'; it has {', '.join(methods)}")
    left_out = [f"--methods.{name}=null" for name in methods if name not in wanted]
    return ["--config", args.config, "--limit", str(args.limit), "--batch_size=2", "--wandb.mode=disabled", *left_out]


def command(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"'{' '.join(words)}' ended with {done.returncode}: {done.stderr[-500:]}")


def disturb(words: Sequence[str], folder: Path, count: int, drawn: random.Random) -> list[Kill]:
    """Kill `count` times, then let everything end; what each kill met."""
    import common.torchvision_remedy  # noqa: F401  (before whatever imports torchvision)
    from evaluation.config import read_config
    from evaluation.plan import make_plan

    parser = make_parser()
    args, rest = parser.parse_known_args(list(words))
    config = read_config(args.config, overrides_of(args, rest, option_strings(parser)))
    plan = make_plan(config)
    total = sum(len(plan.rows(*cell)) * plan.methods[cell[1]].num_samples for cell in plan.cells)
    running = {rank: _start(config, folder, rank) for rank in range(SHARDS)}
    kills: list[Kill] = []
    shares = sorted(drawn.random() for _ in range(count))
    while len(kills) < count:
        running = {rank: pid for rank, pid in running.items() if not _ended(pid)}
        there = [_state(folder, rank) for rank in range(SHARDS)]
        done = sum(state[0] for state in there)
        if running and done < shares[len(kills)] * total:
            time.sleep(0.005)
            continue
        rank = drawn.choice(sorted(running) or range(SHARDS))
        begun = running.pop(rank, None)
        pid = begun or _start(config, folder, rank)
        time.sleep(drawn.uniform(0, LONGEST_DELAY if begun else LONGEST_START))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        rows, torn, pictures, parts = _state(folder, rank)
        kills.append(Kill(len(kills) + 1, rank, rows, torn, pictures, parts, merging=done >= total))
        print(f"killed {kills[-1]}", flush=True)
        running[rank] = _start(config, folder, rank)
    while running:
        time.sleep(0.05)
        running = {rank: pid for rank, pid in running.items() if not _ended(pid)}
    for rank in range(SHARDS):  # whoever had been refused, because a killed one still held the folder
        os.waitpid(_start(config, folder, rank), 0)
    return kills


def _start(config: object, folder: Path, rank: int) -> int:
    """The process id of a shard that goes on from what is there."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        from evaluation.run import Options
        from evaluation.shard_run import evaluate_shard

        evaluate_shard(config, Options(output=folder, accelerator="cpu"), Shard(rank, SHARDS))  # pyright: ignore[reportArgumentType]
        code = 0
    finally:
        os._exit(code)


def _ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] != 0


def _state(folder: Path, rank: int) -> tuple[int, bool, int, int]:
    """(rows, whether one is torn, pictures without a row, files that were being written) of a shard's folder."""
    place = shard_folder(folder, Shard(rank, SHARDS))
    text = "".join(p.read_text() for p in sorted(place.glob("rows*.csv")))
    rows = max(0, text.count("\n") - 1)
    pictures = list((place / "restored").rglob("*.png"))
    parts = list(place.rglob("*.part"))
    whole = [p for p in pictures if not p.name.startswith(".")]
    return rows, bool(text) and not text.endswith("\n"), max(0, len(whole) - rows), len(parts)


def differences(whole: Path, killed: Path) -> list[str]:
    """Names of results that differ: every table without what is measured by clocks, and every restored picture."""
    found = [name for name in ("table.csv", "rows.csv", "sets.csv") if _rows(whole / name) != _rows(killed / name)]
    for path in sorted((whole / "restored").rglob("*.png")):
        other = killed / path.relative_to(whole)
        if not other.is_file() or other.read_bytes() != path.read_bytes():
            found.append(str(path.relative_to(whole)))
    more = {p.relative_to(killed) for p in (killed / "restored").rglob("*") if p.is_file()}
    return [*found, *sorted(str(p) for p in more if not (whole / p).is_file())]


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(file)]
    return [row for row in rows if row.get("metric") not in MEASURED]


def write(folder: Path, kills: Sequence[Kill], wrong: Sequence[str]) -> None:
    """kills.csv and kills.md."""
    names = [field.name for field in fields(Kill)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *(astuple(kill) for kill in kills)])
    write_atomically(folder / "kills.csv", text.getvalue())
    pictures = len(list((folder / "whole/restored").rglob("*.png")))
    lines = ["| kill | shard | rows there | torn row | pictures without a row | files half written | while joining |"]
    lines += ["| ---: | ---: | ---: | --- | ---: | ---: | --- |"]
    for k in kills:
        cells = (k.number, k.shard, k.rows, "yes" if k.torn else "", k.pictures, k.parts, "yes" if k.merging else "")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    verdict = f"different: {', '.join(wrong[:5])}" if wrong else "equal"
    lines += ["", f"Tables and rows without clocks, {pictures} pictures byte by byte: {verdict}.", ""]
    write_atomically(folder / "kills.md", "\n".join(lines))


if __name__ == "__main__":
    run_cli(main)
