"""DDIM inversion: from an image back to the noise that a deterministic sampler would draw it from."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion.denoiser import Condition, Denoiser
from diffusion.samplers.base import check_levels


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    image: Tensor,
    sigmas: Tensor,
    *,
    condition: Condition | None = None,
    refinements: int = 0,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """x' = x + (sigma' - sigma) eps(x, sigma) from sigma = 0 up to sigmas[0]: the DDIM (eta = 0) list walked backwards;
    returns x [B, C, H, W].

    ``DDIM().sample(denoiser, x, sigmas, clip=False)`` leads back to the image, with an error that falls as 1 / steps: a
    step down asks for eps at its upper end, the way up knows it at the lower end only. refinements: how often each step
    asks again at the end it has found, x' <- x + (sigma' - sigma) eps(x', sigma'), the fixed point of which is the
    exact inverse; each costs one call more per step.

    image: [B, C, H, W] in [-1, 1]. sigmas: levels [S + 1], strictly decreasing, ending in 0, as samplers take them.
    on_step(i, x) after each step. ValueError for another list, or refinements < 0. Song et al. 2020 (2010.02502),
    section 4.3, equation 14, read upwards.
    """
    levels = check_levels(sigmas)
    if refinements < 0:
        raise ValueError(f"refinements must be at least 0, got {refinements}")

    def eps(x: Tensor, sigma: float) -> Tensor:
        return denoiser.predict(x, torch.full(x.shape[:1], sigma, dtype=x.dtype, device=x.device), condition).eps

    x, sigma = image, 0.0
    for i, sigma_next in enumerate(reversed(levels[:-1])):
        # At sigma = 0 a denoiser has no answer: the first step asks at its upper end.
        end = x + (sigma_next - sigma) * eps(x, sigma or sigma_next)
        for _ in range(refinements):
            end = x + (sigma_next - sigma) * eps(end, sigma_next)
        x, sigma = end, sigma_next
        if on_step is not None:
            on_step(i, x)
    return x
