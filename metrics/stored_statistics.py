"""A data set's own statistics as clean-fid stores them, in place of a reference that is measured here."""

import importlib.util
import re
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.files import sha256_of
from common.random_streams import RandomStreams
from common.weight_files import WeightFile
from metrics.base import DistributionMetric, Missing, Shape
from metrics.features import FeatureNetwork
from metrics.moments import MeanAndCovariance

URL = "https://www.cs.cmu.edu/~clean-fid/stats/"
#: How clean-fid calls them: data set, mode of resizing, network (none for Inception), split, side of the images.
NAME = re.compile(
    r"(?P<data>[a-z0-9_-]+)_(?P<mode>clean|legacy_pytorch|legacy_tensorflow)(?P<network>_clip_vit_b_32)?"
    r"_(?P<split>[a-z0-9]+)_(?P<side>\d+|na)"
)
MEGABYTES, MEGABYTES_KID = 34, 410  # of 2048 numbers and their covariance, and of 50,000 images, before compression


class StoredStatistics:
    """NAME.npz with mu [d] and sigma [d, d], or NAME_kid.npz with feats [N, d], of Inception's features of images that
    were resized in clean-fid's mode "clean".

    Looked for where weights are, and where clean-fid itself keeps them. What is read is checked against network and
    images.

    Args:
        name: DATA_clean_SPLIT_SIDE as clean-fid calls them (cifar10_clean_train_32), DATA_clean_custom_na for those
            that its make_custom_stats wrote.
        rows: features of single images (_kid.npz), and not their mean and covariance.

    Raises:
        ValueError: another name, another mode, another network.
    """

    def __init__(self, name: str, *, rows: bool = False) -> None:
        found = NAME.fullmatch(name) if isinstance(name, str) else None
        if found is None:
            raise ValueError(
                f"statistics '{name}' are not called as clean-fid calls them: write DATA_clean_SPLIT_SIDE, as"
                " cifar10_clean_train_32, or DATA_clean_custom_na"
            )
        if found["mode"] != "clean" or found["network"]:
            other = "of CLIP" if found["network"] else f"of images that were resized in the mode {found['mode']}"
            raise ValueError(
                f"statistics '{name}' are {other}, and here Inception measures images in the mode clean: give"
                f" {found['data']}_clean_{found['split']}_{found['side']}"
            )
        self.name, self.rows = name, rows
        self.data, self.split = found["data"], found["split"]
        self.side = None if found["side"] == "na" else int(found["side"])

    @property
    def custom(self) -> bool:
        """Whether a person made them, of images that their name does not tell."""
        return self.split == "custom"

    @property
    def file(self) -> WeightFile:
        """The published file."""
        name = f"{self.name}{'_kid' if self.rows else ''}.npz"
        return WeightFile(name, f"clean-fid's statistics {name}", URL + name, MEGABYTES_KID if self.rows else MEGABYTES)

    def find(self) -> Path | None:
        """Where it is; None where it is not."""
        own = _of_clean_fid(self.file.name)
        return self.file.find() or (own if own.is_file() else None)

    def check(self, network: FeatureNetwork, shape: Shape) -> None:
        """UserError where network or images (C, H, W) are others, or the file is of no use; Missing where it is not
        there.
        """
        if network.name != "inception":
            raise UserError(
                f"the statistics '{self.name}' are of the features of Inception, not of '{network.name}': give"
                " checkpoints.features.InceptionFeatures as features, or take statistics out"
            )
        if self.side is not None and tuple(shape[1:]) != (self.side, self.side):
            raise UserError(
                f"the statistics '{self.name}' are of images of {self.side}x{self.side}, these have"
                f" {shape[1]}x{shape[2]}: give those of that size, or take statistics out"
            )
        self._read(network.dimension)

    def check_data(self, data: str | None, split: str | None) -> None:
        """UserError where they are of another data set or split than is measured; None: not known. Data sets are
        compared by name, without - and _.
        """
        if self.custom:
            return
        if data is not None and data.lower() != self.data.replace("_", "").replace("-", ""):
            raise UserError(
                f"the statistics '{self.name}' are of the data set {self.data}, these images of {data}: give those of"
                f" {data}, or take statistics out"
            )
        if split is not None and not self.split.startswith(split):
            raise UserError(
                f"the statistics '{self.name}' are of the split {self.split}, the reference is {split}: make them equal"
            )

    @property
    def fingerprint(self) -> str:
        """Of the file; Missing where it is not there."""
        return sha256_of(self._path())

    def moments(self, dimension: int) -> MeanAndCovariance:
        """Mean and covariance; Missing, UserError as :meth:`check`."""
        mean, covariance = (torch.from_numpy(v.astype(np.float64)) for v in self._read(dimension))
        return MeanAndCovariance(mean, covariance)

    def features(self, dimension: int, count: int) -> Tensor:
        """At most `count` rows, always the same ones and not the first: files come in the order of their names."""
        (found,) = self._read(dimension)
        order = RandomStreams(0).generator("stored statistics", 0).permutation(len(found))[:count]
        return torch.from_numpy(found[order].astype(np.float32))

    def _path(self) -> Path:
        found = self.find()
        if found is None:
            if self.custom:
                where = ", ".join(f"'{p}'" for p in (*self.file.places(), _of_clean_fid(self.file.name)))
                raise Missing(
                    f"{self.file.what} is not there (looked for {where}): write it with clean-fid's make_custom_stats,"
                    " and put it into a folder that WEIGHTS_DIR names"
                )
            raise Missing(self.file.absence())
        return found

    def _read(self, dimension: int) -> tuple[np.ndarray, ...]:
        """The arrays, which fit a network of this dimension."""
        found = self._arrays
        fitting = [(len(found[0]), dimension)] if self.rows else [(dimension,), (dimension, dimension)]
        for values, shape in zip(found, fitting, strict=True):
            if values.shape != shape or values.dtype.kind != "f" or not np.isfinite(values).all():
                raise UserError(
                    f"'{self._path()}' has {list(values.shape)} numbers, and the network {dimension} features, or they"
                    " are not finite: fetch it again, or take statistics out"
                )
        return found

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        path = self._path()
        try:
            with np.load(path, allow_pickle=False) as file:
                return tuple(np.atleast_1d(file[name]) for name in (("feats",) if self.rows else ("mu", "sigma")))
        except (KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
            names = "feats" if self.rows else "mu and sigma"
            raise UserError(
                f"'{path}' is not a file of clean-fid's with {names}, or is damaged: fetch it again"
            ) from error


class AgainstStored(DistributionMetric):
    """A metric of sets whose reference may be a data set's own statistics.

    Args:
        features: the network that images are compared in.
        statistics: as clean-fid calls them; None: the reference is measured.
    """

    later = frozenset({"statistics"})
    rows_of_statistics = False  # features of single images

    def __init__(self, *, features: FeatureNetwork, statistics: str | None = None) -> None:
        super().__init__(features=features)
        self.stored = None if statistics is None else StoredStatistics(statistics, rows=self.rows_of_statistics)
        if statistics is not None:
            self.label = f"{self.label}, {statistics}"

    @classmethod
    def weight_files(cls, options: Mapping[str, Any]) -> tuple[WeightFile, ...]:
        if not options.get("statistics"):
            return ()
        found = StoredStatistics(options["statistics"], rows=cls.rows_of_statistics)
        return () if found.custom else (found.file,)

    def check(self, shape: Shape) -> None:
        super().check(shape)
        if self.stored is not None:
            self.stored.check(self.features, shape)

    @property
    def has_reference(self) -> bool:
        return self.stored is not None

    def check_data(self, data: str | None, split: str | None) -> None:
        if self.stored is not None:
            self.stored.check_data(data, split)

    def weights(self) -> str:
        return super().weights() + ("" if self.stored is None else f" {self.stored.fingerprint}")


def _of_clean_fid(name: str) -> Path:
    """Where clean-fid keeps what it downloads and what make_custom_stats writes; without importing it."""
    found = importlib.util.find_spec("cleanfid")
    package = Path(found.origin).parent if found is not None and found.origin else Path("cleanfid")
    return package / "stats" / name
