"""Reading classifiers without Lightning, and releasing them: ``python -m checkpoints.classifier
runs/NAME/checkpoints/last.ckpt OUT.safetensors``.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from checkpoints.files import load_weights, read_described, write_safetensors
from common.build import Recorded, build
from common.errors import UserError, run_cli
from common.files import sha256_of
from networks.resnet import ResNet

FORMAT = 1
KEY = "classifier"
PREFIX = "classifier."  # where the LightningModule keeps the network


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier read from a file.

    Args:
        network: in eval mode, frozen, float32.
        description: the plain `classifier` dictionary.
        fingerprint: identifies file and weights.
    """

    network: ResNet
    description: dict[str, Any]
    fingerprint: str


def describe_classifier(
    network: nn.Module, *, shape: tuple[int, int, int], data: str, training: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The `classifier` dictionary of a network; TypeError where it is not Recorded."""
    if not isinstance(network, Recorded):
        raise TypeError(
            f"{type(network).__name__} must be a common.build.Recorded, so that a checkpoint can describe it"
        )
    return {
        "format": FORMAT,
        "kind": KEY,
        "network": network.spec,
        "data": {"name": data, "shape": list(shape), "range": [-1, 1]},
        "training": dict(training or {}),
    }


def load_classifier(path: str | Path, *, weights: str = "ema", device: torch.device | str = "cpu") -> LoadedClassifier:
    """Read a classifier from .ckpt or .safetensors; `weights` is "ema" or "raw" (a .safetensors file has one set,
    whatever is asked for).

    Reads tensors and plain values only and builds this project's own classes only. Raises UserError for a missing,
    corrupt or foreign file, for unknown classes, and where the weights do not fit the network.
    """
    description, tensors = read_described(path, key=KEY, prefix=PREFIX, weights=weights)
    where = f"the classifier '{path}'"
    if description.get("format") != FORMAT or description.get("kind") != KEY:
        raise UserError(
            f"{where} has format {description.get('format')!r} and kind {description.get('kind')!r}; this version reads"
            f" format {FORMAT}, '{KEY}'"
        )
    try:
        network = build(description["network"], ResNet, where=f"{where}, network", project_only=True)
        list(description["data"]["shape"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} does not describe its {error}: it is incomplete, export or train it again") from error
    load_weights(network, tensors, where=where)
    return LoadedClassifier(
        network.to(device).eval().requires_grad_(False), description, f"{sha256_of(Path(path))}:{weights}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a .ckpt that train.py wrote")
    parser.add_argument("output", type=Path, help="the .safetensors file to write, in half precision")
    parser.add_argument("--weights", choices=("ema", "raw"), default="ema")
    args = parser.parse_args()
    if args.output.suffix != ".safetensors":
        raise UserError(f"output must end in .safetensors, got '{args.output}'")
    found = load_classifier(args.checkpoint, weights=args.weights)
    write_safetensors(
        args.output, found.network, {**found.description, "weights": args.weights, "dtype": "float16"}, key=KEY
    )
    print(f"{args.output}  {args.output.stat().st_size} bytes  sha256 {sha256_of(args.output)}")


if __name__ == "__main__":
    run_cli(main)
