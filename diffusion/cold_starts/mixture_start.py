"""What the starts share that draw a few numbers per image from a Gaussian mixture over those of training images."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Shape
from diffusion.cold_starts.base import Start
from diffusion.cold_starts.gaussian_mixture import GaussianMixture

_AT_ONCE = 256  # images whose float32 copies are in memory together


class MixtureStart(Start):
    """v ~ sum_k w_k N(m_k, S_k), fitted to v of training images; a leaf says which numbers v of an image, and how they
    make x_T.

    Args:
        components: Gaussians of full covariance.
        seed: of the fit's first guess (nothing is random with one component).
        max_images: of more training images only so many are used, evenly spaced. Draws are not clipped: a Gaussian may
            leave [-1, 1], as in the paper.
    """

    def __init__(self, *, components: int = 1, seed: int = 0, max_images: int = 50000) -> None:
        for name, value in (("components", components), ("max_images", max_images)):
            if isinstance(value, bool) or value != int(value) or value < 1:
                raise UserError(f"{name} must be a whole number of at least 1, got {value}")
        self.components, self.seed, self.max_images = components, seed, max_images
        self.mixture: GaussianMixture | None = None

    @abstractmethod
    def vectors(self, images: Tensor) -> Tensor:
        """The numbers of images uint8 [B, C, H, W] as float64 [B, d], in [-1, 1] units."""

    @property
    def fitted(self) -> bool:
        return self.mixture is not None

    def fit(self, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise TypeError(f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}")
        count = len(images)
        rows = (
            torch.arange(count)
            if count <= self.max_images
            else torch.arange(self.max_images) * count // self.max_images
        )
        parts = [self.vectors(images[part.to(images.device)]) for part in rows.split(_AT_ONCE)]
        vectors = torch.cat(parts) if count else torch.empty(0, max(1, images.shape[1]), dtype=torch.float64)
        self.mixture = GaussianMixture.fit(vectors, components=self.components, seed=self.seed)

    def state(self) -> dict[str, Any]:
        return {} if self.mixture is None else self.mixture.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Nothing for an empty state: that of a start that has not been fitted."""
        self.mixture = GaussianMixture.of_state(state, owner=type(self).__name__) if state else None

    def draw_vectors(self, random: RandomStreams, index: Sequence[int], dimension: int, shape: Shape) -> Tensor:
        """float64 [B, d]; UserError before a fit, or after one to images of another number of channels."""
        name = type(self).__name__
        if self.mixture is None:
            raise UserError(
                f"{name} has not seen any training images: draw from a checkpoint that was trained with this start"
            )
        if self.mixture.dimension != dimension:
            fitted = self.mixture.dimension
            raise UserError(
                f"{name} was fitted to {fitted} numbers per image, and images of {shape} have {dimension}: take images"
                " as in training"
            )
        return torch.stack([self.mixture.draw(random.generator(f"cold start {name}", int(i))) for i in index])
