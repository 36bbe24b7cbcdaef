"""Pictures, measurements and a feature network that the tests of metrics share."""

import torch
from torch import Tensor

from common.image_range import to_float
from common.random_streams import RandomStreams
from degradations.base import Degradation
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from metrics.features import FeatureNetwork, Features

SIZE = 16


class Quadrants(FeatureNetwork):
    """Means of the four quadrants in [-1, 1], and a classifier that says which is the brightest."""

    name, dimension = "quadrants", 4

    def __init__(self, fingerprint: str = "sharp", gain: float = 6.0) -> None:
        self.fingerprint, self.gain = fingerprint, gain
        self.shapes: list[tuple[int, ...]] = []

    def check(self, shape):
        self.shapes.append(shape)

    def to(self, device):
        return self

    def of(self, images: Tensor) -> Features:
        features = torch.nn.functional.adaptive_avg_pool2d(to_float(images).mean(1, keepdim=True), 2).flatten(1)
        return Features(features, (self.gain * features).softmax(1))


def images(count: int = 5, *, channels: int = 1, seed: int = 0) -> Tensor:
    """uint8 [count, channels, 16, 16]: one bright quadrant each, in turn, with a texture."""
    generator = torch.Generator().manual_seed(seed)
    x = 60 + 25 * torch.randn(count, channels, SIZE, SIZE, generator=generator)
    for k in range(count):
        i, j = divmod(k % 4, 2)
        x[k, :, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8] += 110
    return x.round().clamp(0, 255).to(torch.uint8)


def worse(pixels: Tensor, amount: float, seed: int = 1) -> Tensor:
    """The same images with less contrast and more noise."""
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    x = 128 + (1 - amount) * (pixels.float() - 128) + 60 * amount * noise
    return x.round().clamp(0, 255).to(torch.uint8)


def measured(truth: Tensor, degradation: Degradation | None = None) -> Measurement:
    return measure(
        to_float(truth),
        degradation=degradation or Identity(),
        noise=GaussianNoise(sigma=0.1),
        index=list(range(len(truth))),
        random=RandomStreams(0),
    )
