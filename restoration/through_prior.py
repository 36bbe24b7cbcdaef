"""A direction in x0, taken through the prior: the covariance of x0 given x times it, by one gradient."""

from collections.abc import Callable
from dataclasses import fields

import torch

from common.tensor_shapes import Images
from diffusion.denoiser import Prediction
from diffusion.samplers.base import Predict


def through_prior(
    predict: Predict, x: Images, sigma: float, direction: Callable[[Images], Images]
) -> tuple[Prediction, Images]:
    """The prediction of x at sigma, and sigma^2 J^T direction(x0) with J = d x0 / d x, both without a graph.

    Cov[x0 | x] = sigma^2 J by Tweedie's formula (Boys et al. 2023, 2310.06721), where the denoiser is exact.

    Args:
        predict: the prior.
        x: [B, C, H, W].
        sigma: its level, positive.
        direction: of the estimate x0, which is not followed by a gradient, [B, C, H, W].
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        prediction = predict(x, sigma)
        (pulled,) = torch.autograd.grad(prediction.x0, x, direction(prediction.x0.detach()))
    plain = {f.name: v.detach() for f in fields(prediction) if (v := getattr(prediction, f.name)) is not None}
    return Prediction(**plain), sigma**2 * pulled
