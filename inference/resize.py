"""A picture made as large as a prior's images, with the noise that is left in it and the pixels that are
still known.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from common.picture_files import Picture


@dataclass(frozen=True)
class Fitted:
    """picture at the new size. known: float32 [1, 1, h, w], 1 or 0, None where everything is. gain: the factor of the
    noise's standard deviation.
    """

    picture: Picture
    known: Tensor | None
    gain: float


def fitted(picture: Picture, known: Tensor | None, size: tuple[int, int]) -> Fitted:
    """y' = R y C^T with the rows of R and C averaging (triangle kernel, as wide as two of the larger pixels); a new
    pixel is known where all it averages are.

    picture: pixels that are not known must hold finite values. known: [1, 1, H, W] or None. Independent noise of
    standard deviation sigma has sigma * gain afterwards, gain^2 = mean_i sum_j R_ij^2 mean_k sum_l C_kl^2, and is
    correlated between neighbours. UserError where nothing stays known.
    """
    rows, columns = _averaging(picture.image.shape[1], size[0]), _averaging(picture.image.shape[2], size[1])

    def resize(x: Tensor) -> Tensor:
        return (rows @ x.double() @ columns.mT).float()

    left = None
    if known is not None:
        left = (resize(known) > 1 - 1e-5).float()
        if not bool(left.any()):
            raise UserError(
                f"no pixel is known any more after resizing to {size[1]}x{size[0]}: give fewer missing pixels, or a"
                " --prior for larger pictures"
            )
    gain = float((rows.square().sum(1).mean() * columns.square().sum(1).mean()).sqrt())
    alpha = None if picture.alpha is None else resize(picture.alpha).clamp(0, 1)
    return Fitted(replace(picture, image=resize(picture.image), alpha=alpha), left, gain)


def _averaging(old: int, new: int) -> Tensor:
    """float64 [new, old], rows of sum 1: what antialiased linear resizing does along one side."""
    unit = torch.eye(old, dtype=torch.float64)[None, None]
    return F.interpolate(unit, size=(new, old), mode="bilinear", antialias=True)[0, 0] if new != old else unit[0, 0]
