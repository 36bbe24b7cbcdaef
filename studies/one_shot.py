"""The one-shot denoising check of a prior: python -m studies.one_shot --prior PATH --data datamodules.cifar10.CIFAR10

One network call at each of a few noise levels shows a wrong scale, time or converter at once, long before a FID.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from common.build import build
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.image_range import to_float
from common.random_streams import RandomStreams
from datamodules.base import ImageDataModule
from diffusion.denoiser import Condition, Denoiser
from diffusion.schedules import Linear
from checkpoints.prior_options import add_prior_options, prior_of_options

#: RMSE of 255 of x0_hat(x_t) on CIFAR-10 by time (0: least noise) of the linear schedule: Ho et al. 2020 (2006.11239),
#: table 4, where step n is time 1000 - n.
HO = {
    0: 0.95,
    100: 12.02,
    200: 18.47,
    300: 24.44,
    400: 30.81,
    500: 38.03,
    600: 46.13,
    700: 54.19,
    800: 60.97,
    900: 67.60,
}
TIMES = (100, 200, 300, 400, 500)
FACTORS = (0.5, 0.7, 0.84, 1.0, 1.19, 1.41, 2.0)  # the level asked over the true one, where the best is looked for
PROBES = 64  # images that this is done with


@dataclass(frozen=True)
class Reading:
    """At one noise level, everything of 255.

    rmse: sqrt of the mean squared error of x0_hat, clipped to the range, over images and pixels. pixelwise: what the
    best estimate from each pixel alone reaches. best_factor: the level at which the denoiser does best over the true
    one, 1 for a right clock. slope: of truth against x0_hat before clipping, 1 for any conditional expectation. offset:
    mean of truth - x0_hat, 0 likewise.
    """

    sigma: float
    rmse: float
    pixelwise: float
    best_factor: float
    slope: float
    offset: float


def _labels(condition: Condition) -> Tensor:
    if condition.label is None:
        raise ValueError("a condition without labels: give Condition(label=...)")
    return condition.label


def one_shot_rmse(
    denoiser: Denoiser,
    images: Tensor,
    sigmas: Sequence[float],
    *,
    seed: int = 0,
    condition: Condition | None = None,
    batch_size: int = 100,
) -> list[float]:
    """127.5 sqrt(mean (x0_hat(x0 + sigma noise) - x0)^2) at each sigma, x0_hat clipped: RMSE on the scale 0-255; images
    [N, C, H, W] in [-1, 1].

    Noise is keyed by (seed, position of the image). The same forward sample as a x0 + b noise of the variance
    preserving chain, divided by a.
    """
    return [
        _rmse(_denoised(denoiser, images, sigma, sigma, seed, condition, batch_size).clamp(-1, 1), images)
        for sigma in sigmas
    ]


def read(
    denoiser: Denoiser,
    images: Tensor,
    sigmas: Sequence[float],
    *,
    seed: int = 0,
    condition: Condition | None = None,
    batch_size: int = 100,
) -> list[Reading]:
    """The whole check at each sigma, as in :func:`one_shot_rmse`."""
    spread = float((images - images.mean((0, 2, 3), keepdim=True)).square().mean())
    probes = images[:PROBES]
    few = None if condition is None else Condition(label=_labels(condition)[:PROBES])
    readings = []
    for sigma in sigmas:
        found = _denoised(denoiser, images, sigma, sigma, seed, condition, batch_size)
        errors = [
            _rmse(_denoised(denoiser, probes, sigma, f * sigma, seed, few, batch_size).clamp(-1, 1), probes)
            for f in FACTORS
        ]
        a, b = found.double() - found.double().mean(), images.double() - images.double().mean()
        readings.append(
            Reading(
                sigma=sigma,
                rmse=_rmse(found.clamp(-1, 1), images),
                pixelwise=127.5 * math.sqrt(spread * sigma**2 / (spread + sigma**2)),
                best_factor=_minimum(errors),
                slope=float((a * b).sum() / a.square().sum()),
                offset=127.5 * float((images - found).double().mean()),
            )
        )
    return readings


def complaints(readings: Sequence[Reading], expected: Sequence[float] | None = None) -> list[str]:
    """What does not look right, in words; empty where scale, clock and range do. expected: RMSE of 255 at the same
    levels, within 15 %.
    """
    found = []
    for k, r in enumerate(readings):
        where = f"at sigma_255 {127.5 * r.sigma:.1f}"
        if not r.rmse < 0.9 * r.pixelwise:
            found.append(
                f"{where} the error {r.rmse:.1f} is not below that of each pixel alone, {r.pixelwise:.1f}: input scale,"
                " range or prediction is wrong"
            )
        if not 0.9 < r.best_factor < 1.1:
            found.append(
                f"{where} it denoises best when asked for {r.best_factor:.2f} times the true level: clock or input"
                " scale is wrong"
            )
        if not 0.9 < r.slope < 1.1 or not abs(r.offset) < 5:
            found.append(
                f"{where} truth is {r.slope:.2f} times the estimate and {r.offset:+.1f} of 255 off: range or prediction"
                " is wrong"
            )
        if expected is not None and not 0.85 < r.rmse / expected[k] < 1.15:
            found.append(f"{where} the error is {r.rmse:.1f}, expected {expected[k]:.1f}")
    for a, b in pairwise(readings):
        if a.sigma < b.sigma and not a.rmse < b.rmse:
            found.append(
                f"the error falls from sigma_255 {127.5 * a.sigma:.1f} to {127.5 * b.sigma:.1f}, with more noise: the"
                " clock is wrong"
            )
    return found


@torch.no_grad()
def _denoised(
    denoiser: Denoiser,
    images: Tensor,
    sigma: float,
    asked: float,
    seed: int,
    condition: Condition | None,
    batch_size: int,
) -> Tensor:
    parts = []
    for first in range(0, len(images), batch_size):
        x0 = images[first : first + batch_size]
        index = list(range(first, first + len(x0)))
        noise = RandomStreams(seed).normal_batch("one shot", index, [0] * len(x0), x0.shape[1:], x0.device)
        part = None if condition is None else Condition(label=_labels(condition)[first : first + batch_size])
        parts.append(denoiser.predict(x0 + sigma * noise, torch.full((len(x0),), asked, device=x0.device), part).x0)
    return torch.cat(parts)


def _rmse(found: Tensor, images: Tensor) -> float:
    return 127.5 * math.sqrt(float((found - images).double().square().mean()))


def _minimum(errors: Sequence[float]) -> float:
    """Where a parabola through the least error and its neighbours, over the logarithm of the factor, is least."""
    k = min(range(len(errors)), key=errors.__getitem__)
    if k in (0, len(errors) - 1):
        return FACTORS[k]
    (x0, x1, x2), (y0, y1, y2) = (math.log(f) for f in FACTORS[k - 1 : k + 2]), errors[k - 1 : k + 2]
    upper, lower = (
        (x1 - x0) ** 2 * (y1 - y2) - (x1 - x2) ** 2 * (y1 - y0),
        (x1 - x0) * (y1 - y2) - (x1 - x2) * (y1 - y0),
    )
    return math.exp(x1 - 0.5 * upper / lower) if lower else FACTORS[k]


def main() -> None:
    parser = Parser(
        prog="python -m studies.one_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_prior_options(parser)
    parser.add_argument(
        "--data",
        default="datamodules.cifar10.CIFAR10",
        metavar="CLASS",
        help="whose test images (default: datamodules.cifar10.CIFAR10)",
    )
    parser.add_argument("--limit", type=int, default=500, metavar="N", help="the first N images (default: 500)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    args = parser.parse_args()
    if args.limit < 1:
        raise UserError(f"--limit must be at least 1, got {args.limit}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    denoiser = prior_of_options(args, device).denoiser
    data = build(args.data, ImageDataModule, where="--data")
    if tuple(data.shape) != tuple(denoiser.data_shape):
        raise UserError(
            f"--data '{args.data}' has images of {list(data.shape)}, the prior knows {list(denoiser.data_shape)}: give"
            " the data of its training"
        )
    test = data.images("test")
    batch = test.get(range(min(args.limit, len(test))))
    classes = getattr(getattr(denoiser, "network", None), "num_classes", None)
    condition = Condition(label=batch.label.to(device)) if classes else None
    sigmas = [float(Linear().sigma_of(torch.tensor(float(t)))) for t in TIMES]
    readings = read(denoiser, to_float(batch.image).to(device), sigmas, seed=args.seed, condition=condition)
    is_cifar = args.data.rpartition(".")[2] == "CIFAR10"
    print(
        f"{len(batch.image)} test images of {args.data}; time: of the linear schedule, whose levels are asked for; all"
        " errors of 255"
    )
    print("time  noise   RMSE  Ho, CIFAR-10  each pixel alone  best level  slope  offset")
    for time, r in zip(TIMES, readings, strict=True):
        print(
            f"{time:4d} {127.5 * r.sigma:6.1f} {r.rmse:6.2f} {HO[time]:13.2f} {r.pixelwise:17.2f} {r.best_factor:11.2f}"
            f" {r.slope:6.3f} {r.offset:+7.2f}"
        )
    wrong = complaints(readings, [HO[t] for t in TIMES] if is_cifar else None)
    print("\n".join(f"not right: {w}" for w in wrong) or "scale, clock, range and prediction look right")


if __name__ == "__main__":
    run_cli(main)
