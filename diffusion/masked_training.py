"""What a training step asks of a denoiser where a mask says which pixels are missing: a level of noise for every pixel,
and how much each counts.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from common.build import Recorded
from diffusion.denoiser import DiscreteDenoiser, NetworkDenoiser


class MaskedTraining(Recorded, ABC):
    """(times t, missing pixels m) -> the times that pixels are asked at, and their weights. m = 1 everywhere asks for
    the unconditional prior, whatever the variant.

    takes_maps: whether pixels of one image get different times, which the network must take.
    """

    takes_maps: bool = True

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
            missing: 1 where a pixel is missing, 0 where it is known, [B, 1, H, W].
        """


class MaskedLoss(MaskedTraining):
    """w = (1 + strength m) / mean(1 + strength m): the plain loss, in which missing pixels count more; the mean is over
    the pixels of an image, so that no image counts more than another.

    Args:
        strength: how much more, at least 0, which is the plain loss.
    """

    takes_maps = False

    def __init__(self, *, strength: float = 4.0) -> None:
        if not 0 <= strength < math.inf:
            raise ValueError(f"strength must be at least 0 and finite, got {strength}")
        self.strength = strength

    def ask(self, denoiser: NetworkDenoiser, time: Tensor, missing: Tensor) -> tuple[Tensor, Tensor | None]:
        return time, _of_mean_1(1 + self.strength * missing)


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


def _map_of(time: Tensor, like: Tensor) -> Tensor:
    """Times [B] for every pixel, [B, 1, H, W]."""
    return time.view(-1, 1, 1, 1).expand(-1, 1, *like.shape[2:])


def _of_mean_1(weight: Tensor) -> Tensor:
    """Weights [B, 1, H, W] over their mean in each image; 0 where that is 0."""
    mean = weight.flatten(1).mean(1).view(-1, 1, 1, 1)
    return weight / torch.where(mean > 0, mean, torch.ones_like(mean))
