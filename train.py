"""Trains a prior, or draws from one: python train.py fit --config configs/train/NAME.yaml; see README.md."""

import common.torchvision_remedy  # noqa: F401  (before whatever imports torchvision)
from common.errors import run_cli


def main() -> None:
    from lightning_modules.cli import TrainCLI

    TrainCLI()


if __name__ == "__main__":
    run_cli(main)
