"""Trains the checkpoints that an evaluation needs and that are missing, in order, then evaluates:

    python -m studies.chain --config configs/evaluate/cold_against_others.yaml
    python -m studies.chain --config configs/evaluate/cold_against_others.yaml --dry_run          # what there is to do
    python -m studies.chain --config configs/evaluate/cold_against_others.yaml --slurm > jobs.sh  # bash jobs.sh submits

All other options are those of evaluate.py; --train.OPTION=VALUE is one of every training. The same command again goes
on where it was stopped: a finished training is left alone, one that was begun goes on. With --slurm it prints a script
that submits one job for each training and one for the evaluation, each after those that it needs have ended well, and
every job is queued again when its time is over. `python evaluate.py --prepare` with the same options says what each
training costs and fetches its data.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.private_names import option_strings
from common.stop_signals import answer_stop_signals
from evaluation.command_line import make_parser, overrides_of
from evaluation.trainings import Training, trainings_of
from studies.train_and_measure import run

JOB, EVALUATION_JOB, ONE_PROCESS = (f"configs/cluster/{name}.sh" for name in ("slurm", "evaluate_array", "python"))


def asked(words: Sequence[str]) -> tuple[list[Training], bool]:
    """The trainings behind the options of evaluate.py, those that others need first; whether it draws or restores."""
    parser = make_parser()
    args, rest = parser.parse_known_args(list(words))
    if not args.config:
        raise UserError("--config is missing: give a file such as configs/evaluate/masked_mnist.yaml; see --help")
    overrides = overrides_of(args, rest, option_strings(parser))
    from evaluation.config import read_config  # late: a mistake in the options answers without torch
    from evaluation.generation.config import is_generation, read_generation_config

    generation = is_generation(args.config)
    return trainings_of((read_generation_config if generation else read_config)(args.config, overrides)), generation


def job_script(trainings: Sequence[Training], evaluation: Sequence[str], *, generation: bool) -> str:
    """A bash script that submits what is not finished, and the evaluation behind it."""
    lines = [
        "#!/bin/bash",
        "# Submits trainings and the evaluation that needs them, each after those before it have ended well. From the",
        "# repository: bash THIS_FILE. What your cluster calls partition and account, and other sizes:",
        '# TRAIN="--partition=gpu --time=12:00:00" EVALUATE="--partition=gpu --array=0-7" bash THIS_FILE',
        "set -eu",
        'read -ra train <<< "--ntasks-per-node=1 --gpus-per-node=1 ${TRAIN:-}"',
        'read -ra evaluate <<< "${EVALUATE:-}"',
        'submit() { sbatch --parsable --kill-on-invalid-dep=yes "$@"; }',
        "",
    ]
    jobs = {training.run: f"job_{k}" for k, training in enumerate(trainings, 1)}
    for training in trainings:
        words = shlex.join([f"--job-name={training.run.name}", JOB, *training.words[2:]])
        after = _after([jobs[folder] for folder in training.needs if folder in jobs])
        lines.append(f'{jobs[training.run]}=$(submit "${{train[@]}}" {after}{words})')
        lines.append(f'echo "${jobs[training.run]}" {shlex.quote(str(training.run))}')
    words = [ONE_PROCESS, "evaluate.py", *evaluation] if generation else [EVALUATION_JOB, *evaluation]
    last = f'submit "${{evaluate[@]}}" {_after(list(jobs.values()))}{shlex.join(words)}'
    return "\n".join([*lines, f"job=$({last})", 'echo "$job" the evaluation', ""])


def _after(jobs: Sequence[str]) -> str:
    return f'--dependency="afterok:{":".join(f"${job}" for job in jobs)}" ' if jobs else ""


def main() -> None:
    answer_stop_signals()
    parser = Parser(
        prog="python -m studies.chain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry_run", action="store_true", help="list the trainings and where they are; run nothing")
    parser.add_argument("--slurm", action="store_true", help="print a script that submits them as SLURM jobs")
    args, rest = parser.parse_known_args()
    of_train = tuple("--" + word.removeprefix("--train.") for word in rest if word.startswith("--train."))
    if wrong := [word for word in of_train if "=" not in word]:
        raise UserError(f"--train.{wrong[0][2:]} has no value: write --train.OPTION=VALUE, with =")
    evaluation = [word for word in rest if not word.startswith("--train.")]
    trainings, generation = asked(evaluation)
    trainings = [replace(t, words=(*t.words[:-1], *of_train, t.words[-1])) for t in trainings]
    left = [training for training in trainings if training.state != "finished"]
    if args.slurm:
        print(job_script(left, evaluation, generation=generation), end="")
        return
    for training in trainings:
        print(f"{training.state:<9} {training.command}", flush=True)
    last = ["evaluate.py", *evaluation]
    if args.dry_run:
        print(f"{'then':<9} {shlex.join(['python', *last])}")
        return
    for training in left:
        run(training.words)
    run(last)


if __name__ == "__main__":
    run_cli(main)
