"""Computes the bank of conditioning images that a training configuration names (model.init_args.bank) for its training
and validation images.

    python -m studies.dip_bank --config configs/train/ddpm_fashion_mnist_guided.yaml

Goes on where it was stopped; a second call with the same configuration computes nothing. Prints the mean PSNR of the
conditioning images and the residual_std that form "residual" needs.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)
import argparse
import time
from pathlib import Path

import torch

from common.build import build
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.image_range import to_float, to_uint8
from datamodules.base import ImageDataModule
from common.yaml_files import merge, override, read_yaml
from metrics.distortion import psnr
from restoration.conditioning_bank import ConditioningBank


def compute(config: dict, where: str, *, say=print) -> ConditioningBank:
    """The bank of a training configuration, complete; UserError where the configuration names none."""
    options = ((config.get("model") or {}).get("init_args") or {}).get("bank")
    if not isinstance(options, dict):
        raise UserError(f"{where}: model.init_args.bank is missing: give the configuration of a ImageConditionedDDPM")
    bank = build(
        {
            "class_path": "restoration.conditioning_bank.ConditioningBank",
            "init_args": options.get("init_args", options),
        },
        ConditioningBank,
        where=f"{where}, bank",
    )
    data = build(config["data"], ImageDataModule, where=f"{where}, data")
    data.prepare_data()
    for split in ("train", "validation"):
        images = data.images(split)
        start = time.perf_counter()

        def part(done: int, rows: int, split: str = split, start: float = start) -> None:
            say(f"{split}: {done} of {rows} images, {time.perf_counter() - start:.0f} s", flush=True)

        def read(rows: list[int], images=images) -> tuple[torch.Tensor, torch.Tensor]:
            batch = images.get(rows)
            return batch.image, batch.index

        if len(images):
            bank.compute(read, len(images), part)
            batch = images.get(range(min(256, len(images))))
            conditioning = bank.conditioning_images(batch.index).image
            if bank.schedule is None:
                found, spread = (
                    psnr(to_uint8(conditioning), batch.image).mean(),
                    (to_float(batch.image) - conditioning).std(),
                )
                say(
                    f"{split}: PSNR of the first {len(batch.image)} conditioning images to the images"
                    f" {float(found):.2f} dB; residual_std {float(spread):.3f}",
                    flush=True,
                )
    say(f"'{bank.path}' took {bank.seconds:.0f} s of the processor in all", flush=True)
    return bank


def main() -> None:
    parser = Parser(
        prog="python -m studies.dip_bank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, required=True, action="append", help="a training configuration; several are merged"
    )
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="replace one entry, by its dotted path",
    )
    args = parser.parse_args()
    config: dict = {}
    for path in args.config:
        config = merge(config, read_yaml(path))
    for key, value in args.set:
        config = override(config, key, value)
    compute(config, " + ".join(map(str, args.config)))


if __name__ == "__main__":
    run_cli(main)
