"""Chooses the width of the average after training: ``python -m checkpoints.power_ema runs/NAME --width 0.07 --output
prior.safetensors``.

The run must have been trained with ``ema.profile: power`` and ``ema.snapshot_every_n_images``. The result is a released
prior, as checkpoints.export writes one. ``--widths 0.03,0.07,0.15 --output priors`` writes several into a folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from checkpoints.snapshots import SNAPSHOT_DTYPES, Snapshot, read_description, read_snapshots, write_weights
from common.errors import UserError, run_cli
from common.files import sha256_of
from common.power_profile import Combination, Profile, combine, gamma_of

TOLERANCE = 0.05  # of the fit's relative residual


def synthesise(
    folder: Path, width: float, *, images: int | None = None
) -> tuple[dict[str, Tensor], dict[str, Any], Combination]:
    """theta_bar = sum_i w_i theta_bar_i over the snapshots in `folder`, w as common.power_profile.combine gives it.

    width: relative standard deviation of the profile. images: the time of training that the average belongs to, None
    for the newest snapshot's. Returns the weights by name (float32; summed in float64), the header's values with what
    was done, and the combination. Raises UserError for a width out of range, a time without snapshots, snapshots of
    different runs, and where they cannot span the profile (residual above 5 %). Karras et al. 2024 (2312.02696),
    section 3.2.
    """
    found = read_snapshots(folder)
    newest = max(s.images for s in found.values())
    images = newest if images is None else images
    files = {path: s for path, s in found.items() if s.images <= images}
    if not files or images > newest:
        first = min(s.images for s in found.values())
        raise UserError(f"--images must be between {first} and {newest}, where there are snapshots, got {images}")
    try:
        combination = combine([Profile(s.images, s.gamma) for s in files.values()], Profile(images, gamma_of(width)))
    except ValueError as error:
        raise UserError(f"--width {width:g}: {error}") from error
    if combination.residual > TOLERANCE:
        raise UserError(
            f"the {len(files)} snapshots in '{folder}' cannot span the width {width:g} (residual"
            f" {combination.residual:.1%} of the profile, at most {TOLERANCE:.0%}): choose a width nearer to"
            f" {_tracked(list(files.values()))}, or train with a smaller ema.snapshot_every_n_images"
        )
    weights = _combined(list(files), combination.weights)
    header = read_description(list(files)[-1])
    done = {
        "weights": "power_ema",
        "width": width,
        "images": images,
        "residual": combination.residual,
        "snapshots": len(files),
    }
    return weights, {k: {**v, **done} for k, v in header.items()}, combination


def _tracked(snapshots: Sequence[Snapshot]) -> str:
    return " and ".join(f"{w:g}" for w in sorted({s.width for s in snapshots}))


def _combined(paths: list[Path], factors: Sequence[float]) -> dict[str, Tensor]:
    """Floating tensors combined in float64, file after file; others are the newest file's."""
    total: dict[str, Tensor] = {}
    for path, factor in zip(paths, factors, strict=True):
        with safetensors.safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if total and names != set(total):
                raise UserError(
                    f"'{path}' holds other weights than the snapshots before it: the folder mixes runs, move the"
                    " foreign files away"
                )
            for name in names:
                value = file.get_tensor(name)
                if not value.is_floating_point():
                    total[name] = value
                elif name not in total:
                    total[name] = factor * value.double()
                elif total[name].shape != value.shape:
                    raise UserError(
                        f"'{path}' holds '{name}' in another shape than the snapshots before it: the folder mixes runs"
                    )
                else:
                    total[name].add_(value.double(), alpha=factor)
    return {n: v.float() if v.is_floating_point() else v for n, v in total.items()}


def _widths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--widths must be numbers with commas between them, got '{text}'") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, or its folder ema/")
    parser.add_argument("--width", type=float, help="one relative width, between 0 and 0.288")
    parser.add_argument("--widths", help="several, with commas between them: --output is then a folder")
    parser.add_argument("--images", type=int, help="the time of training in images (default: the newest snapshot)")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write, or the folder")
    parser.add_argument("--dtype", choices=tuple(SNAPSHOT_DTYPES), default="float16")
    args = parser.parse_args()
    if (args.width is None) == (args.widths is None):
        raise UserError("give either --width W or --widths A,B,C")
    if args.width is not None and args.output.suffix != ".safetensors":
        raise UserError(f"--output must end in .safetensors, got '{args.output}'")
    if args.widths is not None and args.output.suffix:
        raise UserError(f"--output must be a folder where several --widths are given, got '{args.output}'")
    folder = args.run / "ema" if (args.run / "ema").is_dir() else args.run
    if not folder.is_dir():
        raise UserError(f"there is no run folder '{args.run}': give the folder that train.py wrote")
    widths: list[Any] = [args.width] if args.widths is None else _widths(args.widths)
    for width in widths:
        path = args.output if args.width is not None else args.output / f"width_{width:g}.safetensors"
        weights, header, combination = synthesise(folder, width, images=args.images)
        write_weights(
            path, weights, {k: {**v, "dtype": args.dtype} for k, v in header.items()}, dtype=SNAPSHOT_DTYPES[args.dtype]
        )
        print(
            f"{path}  width {width:g}, {len(combination.weights)} snapshots, residual {combination.residual:.2e}, "
            f"rounding gain {combination.gain:.2f}  sha256 {sha256_of(path)}"
        )


if __name__ == "__main__":
    run_cli(main)
