"""How often a severity is estimated right: python -m studies.severity_check --prior PATH --data datamodules.mnist.MNIST
[--num_images 200]

Test images are degraded at several known severities; for each, what diffusion/severity_estimate.py says of them without
being told.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from common.build import build
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.image_range import to_float
from common.random_streams import RandomStreams
from datamodules.base import ImageDataModule
from diffusion.cold_restorer import ColdRestorer
from diffusion.severity_estimate import candidates, estimate_severity
from checkpoints.prior_options import add_prior_options, restorer_of_options

AT_MOST = 10  # severities that are tried


@dataclass(frozen=True)
class Reading:
    """At one true severity: mean of the estimate, mean distance from the truth, share of images whose estimate is the
    candidate nearest to the truth.
    """

    severity: int
    mean: float
    distance: float
    right: float


def read(restorer: ColdRestorer, x: Tensor, severity: int, *, batch_size: int = 100, seed: int = 0) -> Reading:
    """Estimates for images x [N, C, H, W] in [-1, 1] that were degraded to `severity`; what is random in D is known to
    the estimate.
    """
    found = []
    for first in range(0, len(x), batch_size):
        part = x[first : first + batch_size]
        params = restorer.family.draw_batch(
            RandomStreams(seed), range(first, first + len(part)), restorer.data_shape, x.device
        )
        found.append(estimate_severity(restorer, restorer.family(part, severity, params), params))
    estimate = torch.cat(found)
    choices = torch.tensor(candidates(restorer.severities))
    nearest = int((choices - severity).abs().min())
    distance = (estimate - severity).abs()
    return Reading(
        severity,
        float(estimate.double().mean()),
        float(distance.double().mean()),
        float((distance == nearest).double().mean()),
    )


def main() -> None:
    parser = Parser(
        prog="python -m studies.severity_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_prior_options(parser, restorer=True, of="a checkpoint of ColdDiffusion")
    parser.add_argument("--data", required=True, help="class path of a data module, whose test images are used")
    parser.add_argument("--num_images", type=int, default=200)
    args = parser.parse_args()
    if args.num_images < 1:
        raise UserError(f"--num_images must be at least 1, got {args.num_images}")
    restorer = restorer_of_options(args).restorer
    data = build(args.data, ImageDataModule, where="--data")
    if tuple(data.shape) != tuple(restorer.data_shape):
        raise UserError(
            f"--data has images of {list(data.shape)}, and --prior knows {list(restorer.data_shape)}: make them equal"
        )
    data.prepare_data()
    images = data.images("test")
    x = to_float(images.get(range(min(args.num_images, len(images)))).image)
    table = Table(
        title=f"{restorer.family.description}: severities estimated for {len(x)} test images", title_justify="left"
    )
    for name in ("true severity", "mean estimate", "mean distance", "nearest candidate"):
        table.add_column(name, justify="right")
    tried = candidates(restorer.severities)
    for severity in tried[:: -(-len(tried) // AT_MOST)]:
        r = read(restorer, x, severity)
        table.add_row(str(r.severity), f"{r.mean:.2f}", f"{r.distance:.2f}", f"{100 * r.right:.0f} %")
    Console(width=160 if not Console().is_terminal else None).print(table)


if __name__ == "__main__":
    run_cli(main)
