"""The maps of the project's own classifiers, for perceptual losses."""

import torch
from torch import Tensor

from checkpoints.classifier import load_classifier
from common.build import Recorded
from common.errors import UserError
from metrics.feature_maps import FeatureMaps

LEAST = 8  # pixels; the deepest of three stages then has two


class ClassifierMaps(Recorded, FeatureMaps):
    """The output of each residual block of a classifier that was trained here (lightning_modules/classifier.py), at 1,
    1/2, 1/4 ... of the image's size.

    It is convolutional: any size from 8 pixels will do, though what it learned was about images of its own size. A
    network for colour sees a grey image as three equal channels.

    Args:
        path: a .safetensors of assets/ or a .ckpt.
        weights: "ema" or "raw" of a .ckpt.
        blocks: which ones, from 0; null for all.

    Raises:
        UserError: others.
    """

    def __init__(self, *, path: str, weights: str = "ema", blocks: list[int] | None = None) -> None:
        loaded = load_classifier(path, weights=weights)
        self.path, self.network, self.fingerprint = path, loaded.network, loaded.fingerprint
        count = len(self.network.stages)
        self.blocks = list(range(count)) if blocks is None else list(blocks)
        if not self.blocks or not set(self.blocks) <= set(range(count)):
            raise UserError(f"blocks must be some of 0 .. {count - 1} for '{path}', got {blocks}")

    def check(self, shape: tuple[int, int, int]) -> None:
        channels = self.network.in_channels
        if shape[0] != channels and not (shape[0] == 1 and channels == 3):
            raise UserError(
                f"the classifier '{self.path}' sees images with {channels} channel(s), these have {shape[0]}: give"
                " another one"
            )
        if min(shape[1:]) < LEAST:
            raise UserError(
                f"the classifier '{self.path}' needs images of at least {LEAST} x {LEAST} pixels, these have {shape[1]}"
                f" x {shape[2]}"
            )

    def to(self, device: torch.device) -> "ClassifierMaps":
        self.network.to(device)
        return self

    def of(self, images: Tensor) -> list[Tensor]:
        with torch.autocast(images.device.type, enabled=False):
            x = self.network.stem(images.float().expand(-1, self.network.in_channels, -1, -1))
            maps = []
            for block in self.network.stages:
                x = block(x)
                maps.append(x)
        return [maps[b] for b in self.blocks]
