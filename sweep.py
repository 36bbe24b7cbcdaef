"""A sweep file of W&B without a server: lists its combinations, runs them in a loop or as a SLURM job array, makes one
table of all runs.

    python sweep.py list configs/sweeps/ddpm_mnist_ablation.yaml
    python sweep.py run configs/sweeps/ddpm_mnist_ablation.yaml --jobs 2
    python sweep.py slurm configs/sweeps/ddpm_mnist_ablation.yaml --max_parallel 8 > sweep.sbatch
    python sweep.py table configs/sweeps/ddpm_mnist_ablation.yaml

With a server the same file is for `wandb sweep FILE` and `wandb agent ID`; see docs/wandb.md.
"""

import argparse
import shlex

from common.errors import UserError, run_cli
from common.stop_signals import answer_stop_signals
from sweeps.check import check
from sweeps.command_line import make_parser
from sweeps.expand import Sweep, read_sweep
from sweeps.run import Runner, command_of, selected
from sweeps.slurm import array_script
from sweeps.state import Places
from sweeps.table import write_table


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
    answer_stop_signals()  # `run` has handlers of its own, which pass the signal on
    args = make_parser(__doc__).parse_args()
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
        text, path = write_table(
            sweep, places, list(dict.fromkeys([*([sweep.metric] if sweep.metric else []), *args.metric]))
        )
        print(f"{text}\n{path}")
    return 0


if __name__ == "__main__":
    run_cli(main)
