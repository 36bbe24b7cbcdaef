"""Trains a prior, or draws from one: python train.py fit --config configs/train/NAME.yaml; see README.md."""

import signal
import sys

from common.errors import EXIT_PREEMPTED, run_cli


def main() -> None:
    # Until training installs its own handlers nothing is lost by leaving: a job that is stopped while it reads its data
    # is queued again like any other.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: sys.exit(EXIT_PREEMPTED))

    import common.torchvision_remedy  # noqa: F401  (before whatever imports torchvision)
    from training.cli import TrainCLI

    TrainCLI()


if __name__ == "__main__":
    run_cli(main)
