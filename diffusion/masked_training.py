"""What a training step asks of a denoiser where a mask says which pixels are missing: a level of noise for every pixel,
and how much each counts.
"""

import math
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.build import Recorded
from diffusion.denoiser import DiscreteDenoiser, NetworkDenoiser


class MaskedTraining(Recorded, ABC):
    """(times t, missing pixels m) -> the times that pixels are asked at, and their weights. m = 1 everywhere asks for
    the unconditional prior, whatever the variant.

    takes_maps: whether pixels of one image get different times, which the network must take. takes_soft: whether m may
    lie between 0 and 1.
    """

    takes_maps: bool = True
    takes_soft: bool = False

    def check(self, denoiser: NetworkDenoiser) -> None:
        """ValueError where a denoiser cannot be trained in this way."""
        if denoiser.learns_variance:
            raise ValueError("a learned variance is not trained with masks: take variance 'fixed'")
        if self.takes_maps and not denoiser.takes_maps:
            raise ValueError(
                f"{type(self).__name__} gives pixels levels of their own, and {type(denoiser.network).__name__} takes"
                " one for an image: take networks.unet.UNet"
            )
        if self.takes_maps and not isinstance(denoiser, DiscreteDenoiser):
            raise ValueError(
                f"{type(self).__name__} needs the training times of a diffusion.schedules.Schedule, and prediction"
                f" '{denoiser.prediction}' has a continuum: take prediction 'v'"
            )

    @abstractmethod
    def ask(self, denoiser: NetworkDenoiser, time: Tensor, missing: Tensor) -> tuple[Tensor, Tensor | None]:
        """(times [B] or [B, 1, H, W], weights [B, 1, H, W] or None for 1).

        Args:
            denoiser: what is trained.
            time: its training times, [B].
            missing: 1 where a pixel is missing, 0 where it is known, [B, 1, H, W]; between them with takes_soft.
        """


class MaskedLoss(MaskedTraining):
    """w = r (1 + strength m) / mean(r (1 + strength m)): the plain loss, in which missing pixels count more; the mean
    is over the pixels of an image, so that no image counts more than another.

    Args:
        strength: how much more, at least 0, which is the plain loss.
        regions: path of a file of weights r of pixels, .npz with the array `weight` [H, W], which python -m
            studies.regions writes: regions in which there seldom is anything count more. They count where nothing is
            masked too. null: 1.

    Raises:
        ValueError: options out of range, a file that is none of weights.
    """

    takes_maps, takes_soft = False, True

    def __init__(self, *, strength: float = 4.0, regions: str | None = None) -> None:
        if not 0 <= strength < math.inf:
            raise ValueError(f"strength must be at least 0 and finite, got {strength}")
        self.strength = strength
        self._regions = None if regions is None else read_regions(regions)

    def check(self, denoiser: NetworkDenoiser) -> None:
        super().check(denoiser)
        own = None if self._regions is None else tuple(self._regions.shape)
        if own is not None and own != tuple(denoiser.data_shape[1:]):
            raise ValueError(
                f"regions has weights of {own[0]}x{own[1]} pixels, the images have"
                f" {denoiser.data_shape[1]}x{denoiser.data_shape[2]}: make them of this data set"
            )

    def ask(self, denoiser: NetworkDenoiser, time: Tensor, missing: Tensor) -> tuple[Tensor, Tensor | None]:
        weight = 1 + self.strength * missing
        return time, _of_mean_1(weight if self._regions is None else weight * self._regions.to(weight))


class MaskedNoise(MaskedTraining):
    """t(p) = t where a pixel is missing and 0, the least noise, where it is known; the loss is of missing pixels alone.

    The network is told the map of levels, where Palette (Saharia et al. 2022, 2111.05826) is shown the noisy hole in
    the clean image and the loss is of the hole too. An image without holes counts for nothing.
    """

    def ask(self, denoiser: NetworkDenoiser, time: Tensor, missing: Tensor) -> tuple[Tensor, Tensor | None]:
        whole = _map_of(time, missing)
        return torch.where(missing > 0, whole, torch.zeros_like(whole)), _of_mean_1(missing)


class PixelSeverity(MaskedTraining):
    """t(p) = max(t - round(ahead T (1 - m_p)), 0) of T times: all pixels walk down together, and known ones are ahead.

    Args:
        ahead: by how much of the training times, in (0, 1]; 1 is :class:`MaskedNoise` with the loss on all pixels.
    """

    takes_soft = True

    def __init__(self, *, ahead: float = 0.5) -> None:
        if not 0 < ahead <= 1:
            raise ValueError(f"ahead must lie in (0, 1], got {ahead}")
        self.ahead = ahead

    def ask(self, denoiser: NetworkDenoiser, time: Tensor, missing: Tensor) -> tuple[Tensor, Tensor | None]:
        lead = (self.ahead * denoiser.num_timesteps * (1 - missing)).round().to(time.dtype)
        return (_map_of(time, missing) - lead).clamp(min=0), None


class ExactPosterior(MaskedTraining):
    """sigma(p) = sigma_t where a pixel is missing, (1 / sigma_t^2 + 1 / sigma_y^2)^(-1/2) where it is known: the level
    of what is known of x0 from x_t and y = x0 + sigma_y z together.

    At those levels a denoiser gives E[x0 | x_t, y], which restoration/level_map.py asks for: no other variant is
    trained on exactly what it is asked. Mammadov et al. (Exact Posterior Score Estimation for Solving Linear Inverse
    Problems) show the network the image and y in place of the levels.

    Args:
        noise_255: sigma_y in grey levels of 255, positive; 12.75 as in the paper (0.05 for images in [0, 1]).
    """

    def __init__(self, *, noise_255: float = 12.75) -> None:
        if not 0 < noise_255 < math.inf:
            raise ValueError(f"noise_255 must be positive and finite, got {noise_255}: for none take a small one")
        self.noise_255 = noise_255

    def ask(self, denoiser: NetworkDenoiser, time: Tensor, missing: Tensor) -> tuple[Tensor, Tensor | None]:
        assert isinstance(denoiser, DiscreteDenoiser)
        sigma = denoiser.level_at(time.double())
        assert isinstance(sigma, Tensor)
        both = (sigma.pow(-2) + (self.noise_255 / 127.5) ** -2).rsqrt()
        known = denoiser.schedule.time_of(both).round().to(time.dtype)
        return torch.where(missing > 0, _map_of(time, missing), _map_of(known, missing)), None


def read_regions(path: str) -> Tensor:
    """Weights of pixels, float32 [H, W], finite and at least 0; ValueError where the file has none."""
    if not Path(path).is_file():
        raise ValueError(f"there is no file of regions '{path}': make it with python -m studies.regions")
    try:
        with np.load(path) as file:
            weight = torch.from_numpy(file["weight"]).float()
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"'{path}' is no file of regions: make it with python -m studies.regions") from error
    if weight.ndim != 2 or not bool(((weight >= 0) & weight.isfinite()).all()) or not float(weight.sum()) > 0:
        lowest = f" with the lowest {float(weight.min()):.4g}" if weight.numel() else ""
        raise ValueError(
            f"weights in '{path}' must be [H, W], finite, at least 0 and not all 0, got {list(weight.shape)}{lowest}:"
            " make them with python -m studies.regions"
        )
    return weight


def _map_of(time: Tensor, like: Tensor) -> Tensor:
    """Times [B] for every pixel, [B, 1, H, W]."""
    return time.view(-1, 1, 1, 1).expand(-1, 1, *like.shape[2:])


def _of_mean_1(weight: Tensor) -> Tensor:
    """Weights [B, 1, H, W] over their mean in each image; 0 where that is 0."""
    mean = weight.flatten(1).mean(1).view(-1, 1, 1, 1)
    return weight / torch.where(mean > 0, mean, torch.ones_like(mean))
