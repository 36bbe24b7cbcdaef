"""A round spot of every picture is missing, or fades out."""

import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Operator, Params, Shape
from degradations.diagonal import Diagonal
from degradations.mask import Mask


class SpotMask(Degradation):
    """y = M * x, M = 0 where m > 1/2, or with `soft` M = 1 - m, m_p = exp(-|p - c|^2 / (2 s^2)) for pixels p; what is
    missing reads 0, which is mid-grey.

    The centre c is drawn for each image, each coordinate uniformly over the picture, and the width s too. A hard spot
    is a disc of radius s sqrt(2 log 2), cut off at the border.

    Args:
        least: smallest width s as a share of the shorter side, positive.
        most: largest width, of which each image's is drawn uniformly from least..most.
        soft: whether the spot fades out; training with masks then gives pixels a severity between known and missing.

    Raises:
        UserError: options out of range.
    """

    def __init__(self, *, least: float = 1 / 8, most: float = 1 / 3, soft: bool = False) -> None:
        if not 0 < least <= most < float("inf"):
            raise UserError(f"least must be positive and most at least least and finite, got {least} and {most}")
        self.least, self.most, self.soft = least, most, soft

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        generator = random.generator("mask", index)
        height, width = shape[1:]
        row, column = generator.uniform(0, height) - 0.5, generator.uniform(0, width) - 0.5
        s = generator.uniform(self.least, self.most) * min(height, width)
        rows = (torch.arange(height, dtype=torch.float64) - row).square()
        columns = (torch.arange(width, dtype=torch.float64) - column).square()
        spot = torch.exp(-(rows[:, None] + columns) / (2 * s * s))
        return {"mask": (1 - spot if self.soft else (spot <= 0.5).float())[None]}

    def bind(self, params: Params, shape: Shape) -> Operator:
        if self.soft:
            return Diagonal(params["mask"], channels=shape[0], description="soft mask, a spot fades out")
        return Mask(params["mask"], channels=shape[0], description="mask, a spot missing")
