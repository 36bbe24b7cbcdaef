"""What the starts share whose x_T is what the family itself draws for an image: a colour, noise, another image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Params, Shape
from degradations.severity.base import SeverityFamily
from diffusion.cold_starts.base import LEFT_AT_MOST, Start, left_at_end


class DrawnByFamily(Start):
    """x_T = p, the parameter `name` of D, which D(x, T) nearly is whatever x: drawn by the family, kept for the whole
    of the sampling.
    """

    #: The parameter of D, a tensor [B, C, H, W] or one that is constant over rows and columns.
    name: str
    #: The family that has it, for messages.
    suits: str

    def mismatch(self, family: SeverityFamily, shape: Shape) -> str | None:
        params = family.draw_batch(RandomStreams(0), [0], shape)
        if self.name not in params:
            return f"it draws no '{self.name}'; take {self.suits}"
        left = left_at_end(family, shape, params)
        if left > LEFT_AT_MOST:
            return (
                f"its last severity leaves {left:.0%} of the image, and this start none: more steps, or a schedule that"
                " ends nearer to nothing"
            )
        return None

    def draw(
        self,
        random: RandomStreams,
        index: Sequence[int],
        family: SeverityFamily,
        shape: Shape,
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, Params]:
        params = family.draw_batch(random, index, shape, device)
        return params[self.name].float().expand(-1, *shape).clone(memory_format=torch.contiguous_format), params
