"""From a picture to the noise that the prior would draw it from, and back: python -m studies.invert IN.png --prior PATH
--output DIR
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from common.pictures import grid, png_bytes
from diffusion.denoiser import Condition, Denoiser
from diffusion.drawing import refuse_quiet
from diffusion.inversion import invert
from diffusion.levels import spaced_sigmas
from diffusion.samplers.ddim import DDIM
from checkpoints.prior_options import add_prior_options, prior_of_options
from common.picture_files import read_opaque


@dataclass(frozen=True)
class RoundTrip:
    """latent: x at the first level over that level [1, C, H, W], about standard normal. image: what DDIM draws from it.
    rmse_255: against the picture.
    """

    latent: Tensor
    image: Tensor
    rmse_255: float


def round_trip(
    denoiser: Denoiser, picture: Tensor, *, steps: int, refinements: int, label: int | None = None
) -> RoundTrip:
    """Invert a picture [1, C, H, W] in [-1, 1] with `steps` steps of DDIM and draw it again from what was found;
    float64 outside of the network.
    """
    condition = None if label is None else Condition(label=torch.full((1,), label, device=picture.device))
    sigmas = spaced_sigmas(denoiser, steps, "karras")
    x = invert(denoiser, picture.double(), sigmas, condition=condition, refinements=refinements)
    with torch.no_grad():
        image = DDIM().sample(denoiser, x, sigmas, condition=condition, clip=False)
    error = float((image - picture).square().mean().sqrt()) * 127.5
    return RoundTrip(latent=(x / float(sigmas[0])).float(), image=image.float(), rmse_255=error)


def main() -> None:
    parser = Parser(prog="python -m studies.invert", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "picture", type=Path, metavar="IN.png", help="a picture of the size that the prior was trained on"
    )
    add_prior_options(parser)
    parser.add_argument("--steps", type=int, default=100, help="steps up and down (default: 100)")
    parser.add_argument(
        "--refinements",
        type=int,
        default=1,
        help="calls that make each step up the inverse of its step down (default: 1)",
    )
    parser.add_argument("--label", type=int, default=None, help="class of the picture, for a prior with classes")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="for latent.npy and comparison.png (picture, latent, drawn again)",
    )
    args = parser.parse_args()
    if args.steps < 2 or args.refinements < 0:
        raise UserError(
            f"--steps must be at least 2 and --refinements at least 0, got {args.steps} and {args.refinements}"
        )
    denoiser = prior_of_options(args).denoiser
    refuse_quiet(denoiser, "--prior")
    image = read_opaque(args.picture)
    if tuple(image.shape) != tuple(denoiser.data_shape):
        raise UserError(
            f"'{args.picture}' has shape {list(image.shape)}, the prior knows {list(denoiser.data_shape)}: crop, resize"
            " or save it in that shape"
        )
    classes = getattr(denoiser.network, "num_classes", None)
    if args.label is not None and not 0 <= args.label < (classes or 0):
        raise UserError(
            f"--label must be one of the prior's classes, {f'0..{classes - 1}' if classes else 'and it has none'}, got"
            f" {args.label}"
        )
    if args.label is None and classes and not getattr(denoiser.network, "null_class", True):
        raise UserError(f"--label is missing: the prior knows classes only, give the picture's, 0..{classes - 1}")
    folder = require_writable_folder(args.output, "output")
    picture = image[None]
    found = round_trip(denoiser, picture, steps=args.steps, refinements=args.refinements, label=args.label)
    buffer = io.BytesIO()
    np.save(buffer, found.latent[0].numpy())
    write_atomically(folder / "latent.npy", buffer.getvalue())
    tiles = torch.cat([picture, found.latent.clamp(-3, 3) / 3, found.image.clamp(-1, 1)])
    write_atomically(folder / "comparison.png", png_bytes(grid(tiles, columns=3, at_least=128)))
    mean, std = float(found.latent.mean()), float(found.latent.std())
    print(
        f"latent: mean {mean:.3f}, standard deviation {std:.3f} (0 and 1 where the prior knows such pictures); round"
        f" trip RMSE {found.rmse_255:.3f} of 255"
    )
    print(folder / "latent.npy", folder / "comparison.png", sep="\n")


if __name__ == "__main__":
    run_cli(main)
