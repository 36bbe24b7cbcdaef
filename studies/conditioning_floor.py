"""How much noise can still be read from a deep image prior's answer to a noisy image: the floor of a loss that asks for
that noise.

    python -m studies.conditioning_floor --config configs/train/ddpm_fashion_mnist_on_dip_output.yaml --images 16
    --iterations 25 50 100 250 500

Fits the validation images of a diffused bank again and looks at the answers after some iterations.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
from pathlib import Path

import torch
from torch import Tensor

from common.build import build
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.image_range import to_float
from datamodules.base import ImageDataModule
from common.yaml_files import read_yaml
from restoration.dip import DIP, run
from restoration.deep_image_prior.fit import DIPFit
from restoration.conditioning_bank import ConditioningBank
from restoration.stopping.fixed import FixedIterations


def unread_share(answer: Tensor, clean: Tensor, noise: Tensor, *, rings: int = 14) -> float:
    """1 - sum_k n_k c_k / sum_k n_k: c_k = |<N, R>_k|^2 / (|N|_k^2 |R|_k^2) the coherence of noise and r = answer -
    clean over all images in frequency ring k.

    The least mean squared error, over noise of variance 1, of an estimate of the noise that filters r by one gain per
    ring of spatial frequencies, shared by all images. It is told the clean part of the input, which no network is: a
    network can hardly do better. answer, clean, noise: [B, C, H, W], square images.
    """
    side = noise.shape[-1]
    frequency = torch.fft.fftfreq(side)
    radius = (frequency[:, None].square() + frequency[None].square()).sqrt()
    ring = (radius / (float(radius.max()) * (1 + 1e-6)) * rings).long()
    n, r = (torch.fft.fft2(v.double()) for v in (noise, answer - clean))
    read = count = 0.0
    for k in range(rings):
        here = ring == k
        if not bool(here.any()):
            continue
        a, b = n[..., here], r[..., here]
        energies = a.abs().square().sum() * b.abs().square().sum()
        read += float((a.conj() * b).sum().abs().square() / energies.clamp(min=1e-300)) * int(here.sum())
        count += int(here.sum())
    return 1 - read / count


def read(config: dict, where: str, *, images: int, iterations: list[int]) -> list[tuple[int, dict[str, float]]]:
    """For each number of iterations the unread share by range of times ("0-199") and over all of them ("all"), of the
    raw output.
    """
    options = config["model"]["init_args"]["bank"]
    bank = build(
        {
            "class_path": "restoration.conditioning_bank.ConditioningBank",
            "init_args": options.get("init_args", options),
        },
        ConditioningBank,
        where=f"{where}, bank",
    )
    if bank.schedule is None or not isinstance(bank.method, DIP):
        raise UserError(
            f"{where}: the bank must be of a deep image prior's answers to diffused images: give it a schedule and"
            " restoration.dip.DIP"
        )
    data = build(config["data"], ImageDataModule, where=f"{where}, data")
    data.prepare_data()
    split = data.images("validation")
    batch = split.get(range(min(images, len(split))))
    x0, index = to_float(batch.image), batch.index.tolist()
    time, noise = bank.diffusion(index, tuple(x0.shape[1:]))
    clean = bank.schedule.alpha_bar_of(time).sqrt().view(-1, 1, 1, 1) * x0
    measurement = bank.measurement(x0, index)
    settings = bank.method.settings(measurement.operator)
    settings = type(settings)(**{**vars(settings), "iterations": max(iterations)})
    fit = DIPFit(
        measurement, settings=settings, stopping=FixedIterations(iterations=max(iterations) + 1), random=bank.random
    )
    found = []
    for at in run(fit):
        if at in iterations:
            shares = {
                "all": unread_share(fit.output, clean, noise),
                "averaged": unread_share(fit.average, clean, noise),
            }
            for low, high in ((0, 0.3), (0.3, 1)):
                rows = (time >= low * len(bank.schedule)) & (time < high * len(bank.schedule))
                name = f"t/T {low:g}..{high:g}"
                shares[name] = (
                    unread_share(fit.output[rows], clean[rows], noise[rows]) if bool(rows.any()) else float("nan")
                )
            found.append((at, shares))
    return found


def main() -> None:
    parser = Parser(
        prog="python -m studies.conditioning_floor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, required=True, help="a training configuration with a diffused bank")
    parser.add_argument(
        "--images", type=int, default=16, metavar="N", help="validation images that are fitted (default: 16)"
    )
    parser.add_argument(
        "--iterations", type=int, nargs="+", default=[25, 50, 100, 250, 500], metavar="N", help="when to look"
    )
    args = parser.parse_args()
    if args.images < 1 or min(args.iterations) < 1:
        raise UserError("--images and --iterations must be at least 1")
    print(f"share of the noise that cannot be read from the answer, {args.images} images")
    for at, shares in read(read_yaml(args.config), str(args.config), images=args.images, iterations=args.iterations):
        print(f"{at:5d} iterations: " + ", ".join(f"{name} {value:.3f}" for name, value in shares.items()), flush=True)


if __name__ == "__main__":
    run_cli(main)
