"""Generation from blur: images of one colour, with or without a trace of noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Params, Shape
from degradations.severity.base import SeverityFamily
from degradations.severity.separable import quantised
from diffusion.cold_starts.base import LEFT_AT_MOST, coarse_pattern, end_state, left_at_end
from diffusion.cold_starts.mixture_start import MixtureStart

_MEAN = 0.25  # of the image that the check degrades


class ConstantColour(MixtureStart):
    """x_T = c + noise * n: c [C, 1, 1] from a Gaussian mixture over the channel means of training images, n ~ N(0, 1)
    per pixel and channel, added once.

    For families whose D(x, T) is the mean of each channel: blur, pixelation down to one pixel. Bansal et al. 2022
    (2208.09392).

    Args:
        components: 1 as released: the mean and covariance of the channel means.
        noise: standard deviation in [-1, 1] units; 0 is the paper's "perfect symmetry", whose images depend on C
            numbers alone, 0.002 its "broken symmetry". Where the family keeps degraded images at 8 bits (truncate), c
            is truncated too, and the noise comes on top, as released.
        seed: of the fit, see MixtureStart.
        max_images: that the mixture is fitted to, see MixtureStart.
    """

    def __init__(self, *, components: int = 1, noise: float = 0.002, seed: int = 0, max_images: int = 50000) -> None:
        super().__init__(components=components, seed=seed, max_images=max_images)
        if not 0 <= noise < float("inf"):
            raise UserError(f"noise must be finite and at least 0, got {noise}: the paper has 0.002 in [-1, 1] units")
        self.noise = float(noise)

    def vectors(self, images: Tensor) -> Tensor:
        """The mean of each channel, [B, C]; the sum over pixels is exact."""
        return images.sum((2, 3), dtype=torch.int64).double() / (images.shape[2] * images.shape[3] * 127.5) - 1

    def mismatch(self, family: SeverityFamily, shape: Shape) -> str | None:
        wanted = (
            "this start draws images of one colour; take one that blurs everything away, such as GaussianBlur with"
            " data: generation"
        )
        if family.draw(RandomStreams(0), 0, shape):
            return f"the family draws something random per image, and {wanted}"
        mean = end_state(family, coarse_pattern(shape) + _MEAN).mean((2, 3))
        if float((mean - _MEAN).abs().max()) > LEFT_AT_MOST:
            return f"its last severity changes the mean of an image, and {wanted}"
        left = left_at_end(family, shape)
        return (
            f"its last severity leaves {left:.0%} of the coarsest pattern, and {wanted}, or more steps"
            if left > LEFT_AT_MOST
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
        colour = self.draw_vectors(random, index, shape[0], shape).float()[:, :, None, None]
        if getattr(family, "truncate", False):
            colour = quantised(colour)
        x = colour.expand(-1, *shape).clone()
        if self.noise:
            x += self.noise * random.normal_batch("cold start noise", index, [0] * len(index), shape)
        return x.to(device), {}
