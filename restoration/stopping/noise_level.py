"""The standard deviation of the noise in a measurement: said by somebody, by the noise's own law, or estimated."""

import torch
from torch import Tensor
from torch.nn import functional as F

from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Unsupported

_LEAST_SIDE = 8  # pixels of a picture with more than a handful of windows
_LEAST = 0.5 / 127.5  # what divides by sigma must not divide by 0
_MEDIAN = 0.6744897501960817  # of |N(0, 1)|
_DAUBECHIES = tuple(t / 32**0.5 for t in (1 - 3**0.5, 3**0.5 - 3, 3 + 3**0.5, -1 - 3**0.5))  # two vanishing moments
_HAAR = (0.5**0.5, -(0.5**0.5))
#: (filter down, filter right) and how many complete windows a median needs: smooth parts vanish best under the first,
#: the last needs but two neighbours.
_FILTERS = ((((_DAUBECHIES, _DAUBECHIES),), 200), (((_HAAR, _HAAR),), 100), (((_HAAR, (1.0,)), ((1.0,), _HAAR)), 16))


def known_sigma(measurement: Measurement, sigma_255: float | None = None) -> Tensor:
    """sigma [B], float64 in [-1, 1] units: sigma_255 where it is given, else the rms that the measurement's noise says,
    else :func:`estimate_sigma`.

    A noise of sigma 0 counts as unknown. At least half a grey level, unless given.
    """
    count, device = len(measurement.y), measurement.y.device
    if sigma_255 is not None:
        return torch.full((count,), sigma_255 / 127.5, dtype=torch.float64, device=device)
    if measurement.sigma > 0:
        return measurement.noise.rms(measurement.y, measurement.operator.mask).double().to(device).clamp(min=_LEAST)
    return estimate_sigma(measurement).to(device).clamp(min=_LEAST)


def known_variance(measurement: Measurement, sigma_255: float | None = None) -> Tensor:
    """The variance of every value's noise, in [-1, 1]^2 units, to be broadcast to y: the noise's own law, which says it
    for dark and bright values, where :func:`known_sigma` asks it; else the square of what that says, [B, 1, 1, 1].
    """
    y = measurement.y
    if sigma_255 is None and measurement.sigma > 0:
        return measurement.noise.variance(y, measurement.operator.mask).to(y)
    return known_sigma(measurement, sigma_255).square().to(y).view(-1, *[1] * (y.ndim - 1))


def check_sigma(operator: Operator, noise: Noise, sigma_255: float | None) -> None:
    """Raise Unsupported where a criterion needs sigma, nobody says it and it cannot be estimated."""
    if sigma_255 is None and not noise.sigma > 0 and not _is_picture(operator):
        raise Unsupported(
            "sigma_255: the noise level is not known and cannot be estimated from measurements of shape"
            f" {tuple(operator.output_shape)}: give sigma_255, or take a stopping criterion that needs none (ESWMV,"
            " HeldOutPixels)"
        )


def check_level(sigma_255: float | None) -> None:
    """ValueError for an option sigma_255 that is given and not positive."""
    if sigma_255 is not None and not 0 < sigma_255 < float("inf"):
        raise ValueError(f"sigma_255 must be positive, got {sigma_255}: null takes the measurement's, or estimates it")


def estimate_sigma(measurement: Measurement) -> Tensor:
    """:func:`sigma_of_picture` of every measurement y, measured pixels alone: float64 [B] in [-1, 1] units; 0 for what
    is no picture or has a side below 8.

    The noise of y, not of x: what super-resolution estimates from a small picture holds much of its detail.
    """
    y, mask = measurement.y.detach(), measurement.operator.mask
    if not _is_picture(measurement.operator):
        return torch.zeros(len(y), dtype=torch.float64)
    known = [None] * len(y) if mask is None else mask.expand(len(y), 1, *y.shape[-2:])
    return torch.tensor(
        [sigma_of_picture(image, kept) for image, kept in zip(y, known, strict=True)], dtype=torch.float64
    )


def sigma_of_picture(image: Tensor, known: Tensor | None = None) -> float:
    """sigma = median |(g g^T * x)| / 0.6745 over windows of known pixels, the mean over channels, g the high-pass
    filter of Daubechies' wavelet with two vanishing moments.

    image: [C, H, W], any units. known: [1, H, W], 1 or 0; None for all. Where fewer than 200 windows of 4 x 4 are known
    Haar's of 2 x 2 are taken, and where of those fewer than 100 are, differences of two neighbours; 0 below 16 of them.
    Donoho and Johnstone 1994, as scikit-image's estimate_sigma has it, but at every place instead of every second, on
    known pixels alone, and zeros count: a digit on black has no noise, and leaving zeros out finds 16 of 255. It
    assumes white noise and little detail at the finest scale: texture reads as noise (by 2 to 4 of 255 in photographs
    of 64 pixels, differences of neighbours by up to 5), and noise that was clipped reads low.
    """
    image = image.detach().double().cpu()
    mask = torch.ones_like(image[:1]) if known is None else known.detach().double().cpu()
    for filters, enough in _FILTERS:
        windows = [
            _windows(image, mask, down, right)
            for down, right in filters
            if image.shape[1] >= len(down) and image.shape[2] >= len(right)
        ]
        found = torch.cat([w.abs() for w in windows], 1) if windows else image.new_zeros(len(image), 0)
        if found.shape[1] >= enough:
            return float(found.median(1).values.mean()) / _MEDIAN
    return 0.0


def _windows(image: Tensor, mask: Tensor, down: tuple[float, ...], right: tuple[float, ...]) -> Tensor:
    """What the filter says at every place where all that it sees is known, [C, number of places]."""
    kernel = torch.outer(image.new_tensor(down), image.new_tensor(right))
    complete = F.conv2d(mask[None], torch.ones_like(kernel)[None, None])[0, 0] > kernel.numel() - 0.5
    kernel = kernel / kernel.square().sum().sqrt()
    return F.conv2d(image[:, None], kernel[None, None])[:, 0][:, complete]


def _is_picture(operator: Operator) -> bool:
    shape = operator.output_shape
    return operator.shows_image and len(shape) == 3 and min(shape[-2:]) >= _LEAST_SIDE
