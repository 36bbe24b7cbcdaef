"""Random inpainting: single pixels are missing, independently of each other."""

import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Params, Shape
from degradations.mask import Mask


class RandomMask(Degradation):
    """y = M * x with M = 0 at exactly round(removed * H * W) pixels of every image; missing pixels read 0, which is
    mid-grey.

    Args:
        removed: the fraction of pixels that is missing, in [0, 1] (DPS: 0.92 of a 256x256 image, DAPS: 0.7); all
            channels of a pixel are lost together. The pixels are drawn without replacement from the stream ("mask",
            image index): papers that draw each pixel by itself have a fraction that varies.
        most: largest fraction, in [removed, 1], of which each image's is drawn uniformly from removed..most; null: all
            have one.

    Raises:
        UserError: where a fraction is out of range.
    """

    def __init__(self, *, removed: float, most: float | None = None) -> None:
        if not 0 <= removed <= 1:
            raise UserError(f"removed must be a fraction between 0 and 1, got {removed}")
        if most is not None and not removed <= most <= 1:
            raise UserError(f"most must be a fraction between removed={removed:g} and 1, got {most}")
        self.removed, self.most = removed, most

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        pixels = shape[1] * shape[2]
        generator = random.generator("mask", index)
        removed = self.removed if self.most is None else float(generator.uniform(self.removed, self.most))
        order = torch.from_numpy(generator.permutation(pixels))
        mask = torch.ones(pixels)
        mask[order[: round(removed * pixels)]] = 0
        return {"mask": mask.view(1, *shape[1:])}

    def bind(self, params: Params, shape: Shape) -> Mask:
        share = f"{self.removed:.4g}" if self.most is None else f"{self.removed:.4g} to {self.most:.4g}"
        return Mask(params["mask"], channels=shape[0], description=f"random mask, {share} of the pixels removed")
