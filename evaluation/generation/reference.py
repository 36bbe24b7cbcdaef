"""Features of real images, kept between runs: XDG_CACHE_HOME/palimpsest/features (default ~/.cache); the folder may be
deleted at any time.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from common.errors import UserError
from common.files import write_atomically
from common.random_streams import RandomStreams
from datamodules.base import ImageDataModule
from datamodules.store import ImageSet
from metrics.base import Missing
from metrics.features import FeatureNetwork, Features
from metrics.precision_of_samples import RealImages

BATCH = 250
VERSION = "1"  # of how features are computed: a change of their values needs another number


def reference_features(
    images: ImageSet,
    network: FeatureNetwork,
    *,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Features of `limit` images of a set (None: all), drawn without replacement and shuffled; from the cache where the
    same pixels were measured before.

    Shuffled by a fixed permutation, because sets come in the order of their classes or writers (the first 5,000 test
    digits of MNIST are easier than the rest): any first rows of the result are a fair sample. on_progress(done, total)
    is called after each batch that is computed. The key of the cache is a hash of the pixels and of the network.
    """
    order = shuffled(len(images))[:limit]
    rows, place = order.sort()
    total = len(rows)
    key = hashlib.sha256(f"{VERSION}\0{network.name}\0{network.fingerprint}\0{total}\0".encode())
    for batch in _batches(images, rows):
        key.update(str(tuple(batch.shape)).encode())
        key.update(batch.contiguous().numpy().data)
    path = _folder() / f"{key.hexdigest()[:32]}.safetensors"
    found = _kept(path, total)
    if found is None:
        parts = []
        for batch in _batches(images, rows):  # read twice, so that a large set is never in memory as a whole
            parts.append(network.of(batch))
            if on_progress is not None:
                on_progress(min(len(parts) * BATCH, total), total)
        found = Features.joined(parts)
        _keep(path, found)
    return found.rows(place.argsort())


class TrainingImages(RealImages):
    """The training split of a data set, for metrics of restored images that compare with real ones.

    Args:
        data: the data set, whose files are there.
    """

    def __init__(self, data: ImageDataModule) -> None:
        self.data = data

    def count(self) -> int:
        try:
            images = self.data.images("train")
        except UserError as error:
            raise Missing(f"compares with training images: {error}") from error
        if len(images) and not images.one_shape:
            raise Missing("compares with training images of one size, and these have several")
        return len(images)

    def features(self, network: FeatureNetwork, count: int) -> Tensor:
        images = self.data.images("train")
        return reference_features(images, network, limit=min(count, len(images))).features


def shuffled(count: int) -> Tensor:
    """A permutation of count rows, always the same one, int64 [count]."""
    return torch.from_numpy(RandomStreams(0).generator("reference images", 0).permutation(count))


def _batches(images: ImageSet, rows: Tensor) -> Iterator[Tensor]:
    for part in rows.split(BATCH):
        yield images.get(part.tolist()).image.cpu()


def _kept(path: Path, total: int) -> Features | None:
    with contextlib.suppress(OSError, safetensors.SafetensorError, KeyError):
        if path.is_file():
            kept = safetensors.torch.load_file(path)
            if len(kept["features"]) == total:
                return Features(kept["features"], kept.get("probabilities"))
    return None


def _keep(path: Path, features: Features) -> None:
    content = {"features": features.features.contiguous()}
    if features.probabilities is not None:
        content["probabilities"] = features.probabilities.contiguous()
    with contextlib.suppress(OSError):  # a full or read-only disk: it is computed again next time
        write_atomically(path, safetensors.torch.save(content))


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "palimpsest" / "features"
