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
from checkpoints.inception import SCRIPTED, find_inception, load_inception, wanted_inception
from common.errors import UserError
from common.exact_float32 import exact_float32
from common.files import sha256_of
from common.image_range import to_float
from common.weight_files import WeightFile
from metrics.base import Missing
from metrics.features import FeatureNetwork, Features


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

    The file is inception-2015-12-05.pt, which clean-fid uses, or else weights-inception-2015-12-05-6726825d.pth, the
    same weights as torch-fidelity converted them. The former is TorchScript, which is a program: use only the original.
    The hash of the file is shown with every result. They are looked for in WEIGHTS_DIR, in TORCH_HOME/hub/checkpoints
    and in the system's temporary folder, where clean-fid keeps its own; nothing is downloaded by a job. probabilities
    are those without the bias of the last layer, as the Inception score takes them. Grey images become three equal
    channels. Parmar et al. 2022 (2104.11222). Missing (a UserError) in one line with the places and the address where
    no file is there.

    Args:
        path: of one of the files, a .pth for the latter; null: looked for in the places named above.
    """

    name = "inception"
    dimension = 2048

    def __init__(self, *, path: str | None = None) -> None:
        found = find_inception(path)
        if found is None:
            raise Missing(SCRIPTED.absence(path))
        self.network = load_inception(found)
        self.fingerprint = sha256_of(found)
        self.device = torch.device("cpu")

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        return () if options.get("path") else (wanted_inception(),)

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
            features, probabilities = self.network(x)
        return Features(features.cpu(), probabilities.cpu())


def _resized(image: Tensor) -> Tensor:
    """uint8 [C, H, W] as float32 [3, 299, 299] in 0 .. 255, by clean-fid."""
    from cleanfid.resize import build_resizer  # late: what measures by a classifier alone does not need it

    colour = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return torch.from_numpy(build_resizer("clean")(colour)).permute(2, 0, 1)
