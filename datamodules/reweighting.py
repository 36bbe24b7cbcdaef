"""Importance weights of groups of training images, so that rare ones are shown more often."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from datamodules.store import ImageSet


class Reweighting:
    """w_g = p_g^-gamma / sum_h p_h^(1 - gamma) for groups g with shares p_g of the training images, so that the mean
    weight is 1; clipped to least .. most and divided by its mean again. Images are drawn with these weights.

    It changes the distribution that is learned: gamma 1 learns all groups equally often.

    Args:
        by: "label", or the path of a file of groups, .npz with int64 arrays `index` and `group`, which
            python -m studies.clusters writes.
        gamma: how far shares are evened out, 0 (not at all) .. 1 (fully).
        least: smallest weight, positive, at most 1.
        most: largest weight, at least 1.

    Raises:
        UserError: options out of range.
    """

    def __init__(self, *, by: str = "label", gamma: float = 1.0, least: float = 0.1, most: float = 10.0) -> None:
        if not 0 <= gamma <= 1:
            raise UserError(f"gamma must lie in 0 .. 1, got {gamma}")
        if not 0 < least <= 1 <= most < math.inf:
            raise UserError(f"least must lie in (0, 1] and most be finite and at least 1, got {least} and {most}")
        self.by, self.gamma, self.least, self.most = by, gamma, least, most

    def groups(self, images: ImageSet) -> Tensor:
        """The group 0 .. G - 1 of every image of a set, int64 [N]; UserError where one has none."""
        if self.by == "label":
            group = images.store.label[images.positions].cpu()
            if len(group) and int(group.min()) < 0:
                raise UserError("reweighting.by is label, and the images have none: give a file of groups")
            return group
        path = Path(self.by)
        if not path.is_file():
            raise UserError(f"there is no file of groups '{path}': make it with python -m studies.clusters")
        try:
            with np.load(path) as file:
                index, group = (file[name].astype(np.int64) for name in ("index", "group"))
            if index.ndim != 1 or index.shape != group.shape:
                raise ValueError
        except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"'{path}' is no file of groups, which has the arrays index and group of equally many numbers: make it"
                " with python -m studies.clusters"
            ) from error
        group_of = dict(zip(index.tolist(), group.tolist(), strict=True))
        own = images.store.index[images.positions].tolist()
        lacking = [i for i in own if i not in group_of]
        if lacking:
            raise UserError(f"'{path}' has no group of image {lacking[0]}: make it again of this training set")
        # As many groups as images at most: one array of weights has all of them.
        if len(group) and (int(group.min()) < 0 or int(group.max()) >= len(group)):
            raise UserError(
                f"groups of '{path}' must lie in 0 .. {len(group) - 1}, got {int(group.min())} .. {int(group.max())}:"
                " make it again of this training set"
            )
        return torch.tensor([group_of[i] for i in own])

    def of(self, images: ImageSet) -> dict[str, Tensor]:
        """`groups` [N] and `weights` [G] of a training set, as its loader takes them."""
        groups = self.groups(images)
        return {"groups": groups, "weights": self.weights(groups)}

    def renewed(self, weight: Tensor, group: Tensor, *, times: Tensor) -> Tensor:
        """Weights [G] times others [G], for images with these groups, bounded; UserError for another number of them."""
        share = torch.bincount(group).double() / len(group)
        if times.shape != share.shape:
            raise UserError(
                f"there are {len(share)} groups of training images, and weights of {len(times)}: labels must be the"
                " classes of the features"
            )
        return self.bounded(weight * times.double().cpu(), share)

    def weights(self, group: Tensor) -> Tensor:
        """The weight of every group, float64 [G]; 0 for one without images, which is not drawn."""
        share = torch.bincount(group).double() / max(1, len(group))
        return self.bounded(torch.where(share > 0, share.clamp(min=1e-300) ** -self.gamma, 0.0), share)

    def bounded(self, weight: Tensor, share: Tensor) -> Tensor:
        """Weights [G] with the mean 1 over the images, clipped, and with that mean again; UserError where all are 0,
        negative or not finite.
        """
        if not bool(((weight >= 0) & weight.isfinite()).all()) or not float((weight * share).sum()) > 0:
            raise UserError(
                f"weights of groups must be at least 0 and not all 0, got {[round(w, 4) for w in weight.tolist()]}"
            )
        weight = weight / (weight * share).sum()
        weight = torch.where(share > 0, weight.clamp(self.least, self.most), 0.0)
        return weight / (weight * share).sum()


def effective_images(weight: Tensor) -> float:
    """(sum w)^2 / sum w^2 of the weights of all images: as many equally weighted ones say as much."""
    return float(weight.double().sum().square() / weight.double().square().sum())


def drawn_rows(weight: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """`count` rows, each with probability w / sum w, in random order, int64: every row floor or ceil of its expected
    number of times (systematic resampling, Kitagawa 1996).

    Raises:
        ValueError: weights that are negative, not finite, or 0 altogether.
    """
    if weight.ndim != 1 or not bool(((weight >= 0) & weight.isfinite()).all()) or not float(weight.sum()) > 0:
        raise ValueError("weights must be at least 0, finite and not all 0")
    total = weight.double().cumsum(0)
    # Of the places (k + u) / count, k = 0, 1, ..., how many lie below the end of each row's share.
    below = (total * (count / total[-1]) - float(generator.random())).ceil().clamp(0, count)
    below[total >= total[-1]] = count
    rows = torch.arange(len(weight)).repeat_interleave(below.diff(prepend=below.new_zeros(1)).long())
    return rows[torch.from_numpy(generator.permutation(count))]
