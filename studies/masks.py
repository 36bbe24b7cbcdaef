"""Fixes one mask for every image of a split in a file, for degradations.stored_masks.StoredMasks: drawn ones, or what
is in the images themselves.

    python -m studies.masks --data datamodules.mnist.MNIST --family boundary --output masks/mnist_test_boundary.npz
    python -m studies.masks --data datamodules.mnist.MNIST --family degradations.stroke_mask.StrokeMask --output FILE

"centre": the foreground is missing, what Otsu's threshold (1979) takes for bright. "boundary": its edge is missing, the
morphological gradient, dilated by 1/16 of the shorter side. Or the class path of a mask of degradations/, with options
as YAML: '{class_path: ..., init_args: {...}}'. Prints the share of missing pixels and a hash of the file, which rows of
evaluations carry too; the same options give the same file. For training, which asks for those of the validation too:
--split train, and validation: 0 in --data.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)
import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml
from scipy import ndimage
from torch import Tensor

from common.build import build
from common.command_line import Parser
from common.errors import UserError, nearest, run_cli
from common.files import sha256_of
from common.random_streams import RandomStreams
from common.shapes import image_shape
from datamodules.base import ImageDataModule, Split
from datamodules.store import ImageSet
from degradations.base import Degradation
from degradations.stored_masks import write_masks

CHUNK = 250


def foreground(image: Tensor) -> np.ndarray:
    """What Otsu's threshold takes for bright in 8-bit pixels [C, H, W], bool [H, W]; of one level alone nothing."""
    from skimage.filters import threshold_otsu  # a second to import

    grey = image.float().mean(0).numpy()
    return grey > threshold_otsu(grey) if grey.min() < grey.max() else np.zeros(grey.shape, dtype=bool)


def boundary(image: Tensor) -> np.ndarray:
    """The pixels at the edge of the foreground, and those up to 1/16 of the shorter side from them, bool [H, W]."""
    inside = foreground(image)
    edge = np.logical_xor(ndimage.binary_dilation(inside), ndimage.binary_erosion(inside, border_value=1))
    wider = round(min(inside.shape) / 16)
    return ndimage.binary_dilation(edge, iterations=wider) if wider else edge


SEEN: dict[str, Callable[[Tensor], np.ndarray]] = {"centre": foreground, "boundary": boundary}


def known_pixels(images: ImageSet, family: str, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Indices, int64 [N], and known pixels, bool [N, H, W]; UserError for a family that there is not, or is no mask."""
    spec = _spec(family)
    drawn = None if spec is None else build(spec, Degradation, where="--family")
    indices, known = [], []
    for rows in torch.arange(len(images)).split(CHUNK):
        batch = images.get(rows.tolist())
        index = batch.index.tolist()
        if drawn is None:
            known += [torch.from_numpy(~SEEN[family](image.cpu())) for image in batch.image]
        else:
            operator = drawn.operator_for(image_shape(batch.image.shape[1:]), index, RandomStreams(seed))
            if operator.mask is None or not operator.keeps_pixels:
                raise UserError(f"--family {type(drawn).__name__} keeps no single pixels, and masks do")
            known += list(operator.mask[:, 0].bool().expand(len(index), -1, -1))
        indices += index
    return torch.tensor(indices), torch.stack(known)


def _spec(family: str) -> Any:
    """The degradation that is named; None for what is seen in the images."""
    if family in SEEN:
        return None
    given = _yaml(family, "--family")
    if given is None or (isinstance(given, str) and "." not in given):
        raise UserError(
            f"there is no family of masks '{family}'{nearest(family, SEEN)}: there are {', '.join(SEEN)}, and class"
            " paths such as degradations.stroke_mask.StrokeMask"
        )
    return given


def _yaml(text: str, option: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{option} must be a class path, or {{class_path, init_args}} as YAML, got '{text}'") from error


def main() -> None:
    parser = Parser(
        prog="python -m studies.masks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="class path of a data set, or {class_path, init_args} as YAML")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--family", required=True, help="centre, boundary, or a mask of degradations/")
    parser.add_argument("--seed", type=int, default=0, help="of masks that are drawn (default: 0)")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the file, .npz")
    given = parser.parse_args()
    data = build(_yaml(given.data, "--data"), ImageDataModule, where="--data")
    data.prepare_data()
    images = data.images(cast(Split, given.split))
    if not len(images) or not images.one_shape:
        raise UserError(f"--split {given.split}: masks need images of one size, and there are none")
    index, known = known_pixels(images, given.family, seed=given.seed)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_masks(given.output, index, known)
    missing = 1 - known.flatten(1).double().mean(1)
    spread = float(missing.std()) if len(missing) > 1 else 0.0
    print(
        f"'{given.output}': {len(index)} masks, {100 * float(missing.mean()):.1f} % of the pixels missing (standard"
        f" deviation {100 * spread:.1f}), SHA-256 {sha256_of(given.output)}",
        flush=True,
    )


if __name__ == "__main__":
    run_cli(main)
