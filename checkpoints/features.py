"""Feature networks from files: the project's own classifiers, and the Inception network that published FIDs are
measured in.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from checkpoints.classifier import load_classifier
from common.errors import UserError
from common.exact_float32 import exact_float32
from common.files import sha256_of
from common.image_range import to_float
from common.weight_files import WeightFile
from metrics.base import Missing
from metrics.features import FeatureNetwork, Features

INCEPTION = WeightFile(
    name="inception-2015-12-05.pt",
    what="the Inception network",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    megabytes=96,
)


class ClassifierFeatures(FeatureNetwork):
    """The inputs of the last layer of a classifier that was trained here (lightning_modules/classifier.py); values are
    comparable inside this project only.

    Args:
        path: a .safetensors of assets/ or a .ckpt.
        weights: "ema" or "raw" of a .ckpt.
        pool: images are averaged over pool x pool pixels first, so that a classifier of 32x32 pixels takes 64x64; 1
            leaves them as they are. The name of the network says it.
    """

    def __init__(self, *, path: str, weights: str = "ema", pool: int = 1) -> None:
        if pool < 1:
            raise UserError(f"pool of the feature network must be at least 1, got {pool}")
        loaded = load_classifier(path, weights=weights)
        self.path, self.network, self.fingerprint = path, loaded.network, loaded.fingerprint
        self.name, self.dimension = Path(path).stem, loaded.network.feature_dimension
        self.pool = pool
        if pool > 1:
            self.name += f"_pool{pool}"
        channels, height, width = loaded.description["data"]["shape"]
        self.shape = (channels, height * pool, width * pool)
        self.device = torch.device("cpu")

    def check(self, shape: tuple[int, int, int]) -> None:
        if tuple(shape) != self.shape:
            raise UserError(
                f"the feature network '{self.path}' knows images of {list(self.shape)}, these are {list(shape)}: give"
                " another one as features"
            )

    def to(self, device: torch.device) -> "ClassifierFeatures":
        self.network.to(device)
        self.device = torch.device(device)
        return self

    @torch.no_grad()
    def of(self, images: Tensor) -> Features:
        with exact_float32(self.device):
            x = to_float(images.to(self.device))
            features = self.network.features(x if self.pool == 1 else avg_pool2d(x, self.pool))
            probabilities = self.network.logits(features).softmax(1)
        return Features(features.cpu(), probabilities.cpu())


class InceptionFeatures(FeatureNetwork):
    """The 2048 features of the 2015 Inception network, on images resized to 299x299 by clean-fid (Pillow's bicubic,
    each channel in float, clipped).

    The network is a TorchScript file, which is a program: use only the original, whose hash is shown with every result.
    It is looked for at `path`, in WEIGHTS_DIR, in TORCH_HOME/hub/checkpoints and in the system's temporary folder,
    where clean-fid keeps it; nothing is downloaded by a job. probabilities are those without the bias of the last
    layer, as the Inception score takes them. Grey images become three equal channels. Parmar et al. 2022 (2104.11222).
    Missing (a UserError) in one line with the places and the address where the file is not there.

    Args:
        path: of the TorchScript file inception-2015-12-05.pt; null: looked for in the places named above.
    """

    name = "inception"
    dimension = 2048

    def __init__(self, *, path: str | None = None) -> None:
        found = INCEPTION.find(path)
        if found is None:
            raise Missing(INCEPTION.absence(path))
        try:
            self.network = torch.jit.load(str(found), map_location="cpu").eval()
        except RuntimeError as error:
            raise UserError(
                f"'{found}' is not a TorchScript file, or is damaged: fetch it again from {INCEPTION.url}"
            ) from error
        self.fingerprint = sha256_of(found)
        self.device = torch.device("cpu")

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        return () if options.get("path") else (INCEPTION,)

    def check(self, shape: tuple[int, int, int]) -> None:
        if shape[0] not in (1, 3):
            raise UserError(f"Inception takes grey or colour images, these have {shape[0]} channels")

    def to(self, device: torch.device) -> "InceptionFeatures":
        self.network.to(device)
        self.device = torch.device(device)
        return self

    @torch.no_grad()
    def of(self, images: Tensor) -> Features:
        x = torch.stack([_resized(image) for image in images.cpu()]).to(self.device)
        with exact_float32(self.device):
            # The file's own forward would resize once more, in TensorFlow's way; its layers take what is already of the
            # right size.
            features = self.network.layers((x - 128) / 128).flatten(1).float()
            probabilities = self.network(x, no_output_bias=True).float()
        return Features(features.cpu(), probabilities.cpu())


def _resized(image: Tensor) -> Tensor:
    """uint8 [C, H, W] as float32 [3, 299, 299] in 0 .. 255, by clean-fid."""
    from cleanfid.resize import build_resizer  # late: what measures by a classifier alone does not need it

    colour = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return torch.from_numpy(build_resizer("clean")(colour)).permute(2, 0, 1)
