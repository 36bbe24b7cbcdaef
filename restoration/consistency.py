"""The estimate of a prior, pulled towards the measurement in closed form."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from degradations.base import Operator
from degradations.linear import proximal
from degradations.noise import Noise
from diffusion.denoiser import Prediction
from diffusion.samplers.base import Predict
from restoration.base import Unsupported

#: (x0 [B, C, H, W], sigma of the noise that x0 was estimated under) -> x0 that agrees better with the measurement.
Consistent = Callable[[Tensor, float], Tensor]


def _check_linear(operator: Operator) -> None:
    if not operator.linear:
        raise Unsupported(
            "consistency 'projection' needs a linear operator, and"
            f" {operator.description or type(operator).__name__} is not: take 'gradient'"
        )


def check_projection(operator: Operator, noise: Noise) -> None:
    """Raise Unsupported where :func:`projection` cannot work, or would take the noise for what it is not."""
    _check_linear(operator)
    if not noise.is_white:
        raise Unsupported(
            "consistency 'projection' takes the noise of the measurement for white and of one level, and"
            f" {noise!r} is not: take 'gradient', or 'none'"
        )


def projection(operator: Operator, y: Tensor, noise_sigma: float) -> Consistent:
    """x0 -> argmin_x |y - A x|^2 / s_y^2 + |x - x0|^2 / r^2 = x0 + V s / (s^2 + s_y^2 / r^2) (U^T y - s V^T x0), r^2 =
    sigma^2 / (1 + sigma^2).

    r^2 is the variance of x0 given x for data of variance 1. Without noise (s_y = 0) this is DDNM's x0 + A^+ (y - A
    x0), Wang et al. 2022 (2212.00490); with noise it is the proximal step of DiffPIR, Zhu et al. 2023 (2305.08995),
    which does not paste the noise of y into x. Singular values up to the operator's threshold are taken for zero; where
    there is no singular value decomposition the step is solved by conjugate gradients, with a ratio s_y^2 / r^2 of at
    least threshold^2. y [B, ...], noise_sigma: of it, in [-1, 1] units.
    """
    svd = operator.svd
    if svd is None:
        _check_linear(operator)
        return lambda x0, sigma: proximal(
            operator, x0, y, max(noise_sigma**2 * (1 + sigma**2) / sigma**2, operator.threshold**2)
        )
    s = svd.singular_values.to(y.device)
    s = torch.where(s > operator.threshold, s, 0.0)
    target = svd.ut(y).to(y.dtype)

    def agree(x0: Tensor, sigma: float) -> Tensor:
        ratio = noise_sigma**2 * (1 + sigma**2) / sigma**2
        gain = torch.where(s > 0, s / (s.square() + ratio), 0.0).to(x0.dtype)
        return x0 + svd.v(gain * (target - s.to(x0.dtype) * svd.vt(x0))).to(x0.dtype)

    return agree


def agreeing(predict: Predict, agree: Consistent) -> Predict:
    """The prediction whose x0 was made consistent, and whose eps follows from it."""

    def consistent(x: Tensor, sigma: float) -> Prediction:
        found = predict(x, sigma)
        x0 = agree(found.x0, sigma)
        return replace(found, x0=x0, eps=(x - x0) / sigma)

    return consistent
