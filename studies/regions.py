"""Weights of the pixels of a data set by how seldom there is something, for the option `regions` of
diffusion.masked_training.MaskedLoss.

    python -m studies.regions --config configs/train/masked_mnist_m1.yaml --output regions/mnist.npz
    python train.py fit --config configs/train/masked_mnist_m1.yaml --model.variant.init_args.regions=regions/mnist.npz

w_p in proportion to (r_p + 0.01)^-gamma, r_p the share of the training images whose pixel p is brighter than `--above`;
divided by its mean, clipped to 0.1 .. 10, and divided by its mean again.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)
import argparse
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.build import build
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import write_atomically
from common.yaml_files import read_yaml
from datamodules.base import ImageDataModule
from datamodules.store import ImageSet

CHUNK = 250
LEAST, MOST = 0.1, 10.0


def filled_share(images: ImageSet, above: float) -> Tensor:
    """r_p, float64 [H, W]: the share of the images whose pixel p, the mean of its channels, is above a grey level."""
    count = torch.zeros(image_side(images), dtype=torch.float64)
    for rows in torch.arange(len(images)).split(CHUNK):
        count += (images.get(rows.tolist()).image.cpu().float().mean(1) > above).double().sum(0)
    return count / len(images)


def image_side(images: ImageSet) -> tuple[int, int]:
    """(H, W); UserError where the images have several, or there are none."""
    if not len(images) or not images.one_shape:
        raise UserError("regions need training images of one size, and there are none")
    return images.shape(0)[1], images.shape(0)[2]


def region_weights(share: Tensor, gamma: float) -> Tensor:
    """Of shares [H, W], with the mean 1."""
    weight = (share + 0.01) ** -gamma
    weight = (weight / weight.mean()).clamp(LEAST, MOST)
    return weight / weight.mean()


def main() -> None:
    parser = Parser(
        prog="python -m studies.regions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="a training configuration: whose data")
    parser.add_argument("--gamma", type=float, default=0.5, help="0 (all alike) .. 1 (default: 0.5)")
    parser.add_argument("--above", type=float, default=127.5, help="grey level 0 .. 255 (default: 127.5)")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the file, .npz")
    given = parser.parse_args()
    if not 0 <= given.gamma <= 1 or not 0 <= given.above < 255:
        raise UserError(
            f"--gamma must lie in 0 .. 1 and --above in 0 .. 255, without 255, got {given.gamma} and {given.above}"
        )
    config = read_yaml(given.config)
    if not config.get("data"):
        raise UserError(f"'{given.config}' names no data: give a training configuration, configs/train/NAME.yaml")
    data = build(config["data"], ImageDataModule, where=f"{given.config}, data")
    data.prepare_data()
    share = filled_share(data.images("train"), given.above)
    weight = region_weights(share, given.gamma)
    content = io.BytesIO()
    np.savez(content, weight=weight.numpy(), share=share.numpy())
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(given.output, content.getvalue())
    print(
        f"'{given.output}': weights of {' x '.join(map(str, weight.shape))} pixels from {float(weight.min()):.3g} to"
        f" {float(weight.max()):.3g}",
        flush=True,
    )


if __name__ == "__main__":
    run_cli(main)
