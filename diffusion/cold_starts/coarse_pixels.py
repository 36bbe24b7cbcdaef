"""Generation from pixelation: a few large pixels, drawn together."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from common.image_range import to_float
from common.random_streams import RandomStreams
from degradations.base import Params, Shape
from degradations.severity.base import SeverityFamily
from degradations.severity.pixelation import Pixelation
from degradations.severity.separable import quantised
from diffusion.cold_starts.mixture_start import MixtureStart


class CoarsePixels(MixtureStart):
    """x_T = v shown with large pixels: v [C, side, side] from a Gaussian mixture over training images reduced to side x
    side pixels by averages.

    With side 2 and three channels x_T has 12 degrees of freedom. For Pixelation whose last severity leaves side x
    side pixels; v is exactly what its mode "area" leaves, and nearly what its bicubic first step does (for values of
    +-1 up to 0.05 off at 32 pixels and side 2, 0.01 at 128).

    Source: reference of generation by Bansal et al. 2022 (2208.09392).

    Args:
        side: large pixels per side of the image (default 2: 12 degrees of freedom in colour).
        components: of the mixture, see MixtureStart.
        seed: of the fit, see MixtureStart.
        max_images: that the mixture is fitted to, see MixtureStart.
    """

    def __init__(self, *, side: int = 2, components: int = 1, seed: int = 0, max_images: int = 50000) -> None:
        super().__init__(components=components, seed=seed, max_images=max_images)
        if isinstance(side, bool) or side != int(side) or side < 1:
            raise UserError(f"side must be a whole number of at least 1, got {side}")
        self.side = side

    def vectors(self, images: Tensor) -> Tensor:
        """The side x side averages, [B, C * side * side]."""
        if min(images.shape[2:]) < self.side:
            raise UserError(
                f"side={self.side} is larger than the images of {images.shape[2]}x{images.shape[3]} pixels: take a"
                " smaller side"
            )
        return self._reduced(to_float(images).double()).flatten(1)

    def mismatch(self, family: SeverityFamily, shape: Shape) -> str | None:
        wanted = (
            f"this start draws {self.side}x{self.side} large pixels; take Pixelation with as many steps as leave them,"
            " or another side"
        )
        if not isinstance(family, Pixelation):
            return wanted
        left = [family.side_at(side, family.severities) for side in shape[1:]]
        return (
            f"it leaves {left[0]}x{left[1]} pixels of {shape[1]}x{shape[2]}, and {wanted}"
            if left != [self.side, self.side]
            else None
        )

    def draw(
        self,
        random: RandomStreams,
        index: Sequence[int],
        family: SeverityFamily,
        shape: Shape,
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, Params]:
        drawn = self.draw_vectors(random, index, shape[0] * self.side**2, shape)
        pixels = drawn.float().view(-1, shape[0], self.side, self.side)
        if getattr(family, "truncate", False):
            pixels = quantised(pixels)
        return self._enlarged(pixels, shape).to(device), {}

    def _reduced(self, x: Tensor) -> Tensor:
        """[B, C, side, side]: by halves, rounded up as in Pixelation, where that meets `side`, and else in one step;
        the same where 2^n side is the image.
        """
        height, width = x.shape[2:]
        sizes = []
        while max(height, width) > self.side:
            height, width = -(-height // 2), -(-width // 2)
            sizes.append((height, width))
        for size in sizes if (height, width) == (self.side, self.side) else [(self.side, self.side)]:
            x = F.adaptive_avg_pool2d(x, size)
        return x

    def _enlarged(self, pixels: Tensor, shape: Shape) -> Tensor:
        return F.interpolate(pixels, size=tuple(shape[1:]), mode="nearest-exact")
