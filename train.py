"""Trains a prior, or draws from one: python train.py fit --config configs/train/NAME.yaml; see README.md."""

import sys

from common.errors import run_cli
from common.library_messages import silence
from common.stop_signals import answer_stop_signals


def main() -> None:
    # Until training installs its own handlers nothing is lost by leaving: a job that is stopped while it reads its data
    # is queued again like any other.
    answer_stop_signals()
    from training.first_words import answered

    if answered(sys.argv[1:]):
        return
    silence()
    from training.cli import TrainCLI  # late: Lightning takes seconds, and a signal may come meanwhile
    from training.wandb_logger import finish_wandb

    code = 1
    try:
        TrainCLI()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        raise
    finally:
        finish_wandb(code)


if __name__ == "__main__":
    run_cli(main)
