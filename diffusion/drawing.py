"""Images from a prior and nothing else, keyed by their indices."""

import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from common.tensor_shapes import Images
from diffusion.denoiser import Condition, Denoiser
from diffusion.samplers.base import Sampler

#: Below this level pictures are seen through the noise, their standard deviation being about 0.5.
LOUD = 1.0


def refuse_quiet(denoiser: Denoiser, where: str) -> None:
    """UserError, which begins with `where`, for a prior that does not know the noise that drawing begins with, such as
    a published denoiser.
    """
    if denoiser.sigma_max < LOUD:
        raise UserError(
            f"{where}: drawing begins in pure noise, and the highest level that the prior knows is sigma_255"
            f" {127.5 * denoiser.sigma_max:.4g}, where pictures are still seen: take a prior that knows more noise"
        )


@torch.no_grad()
def draw(
    denoiser: Denoiser,
    sampler: Sampler,
    sigmas: Tensor,
    *,
    index: list[int],
    random: RandomStreams,
    device: torch.device | str,
    condition: Condition | None = None,
    mean: Tensor | None = None,
) -> Images:
    """One image for each index, [B, C, H, W], from sigmas[0] times keyed noise: image k is the same alone and in any
    batch, on any process.

    sigmas: levels as samplers take them. condition: labels of the batch, where the prior has classes. mean: of the
    start, None for 0. Training grids, ``train.py predict`` and evaluation draw the same images for the same seed,
    sampler and levels.
    """
    zeros, shape = [0] * len(index), denoiser.data_shape
    x = float(sigmas[0]) * random.normal_batch("generation start", index, zeros, shape, device)
    x = x if mean is None else x + mean
    with random.sequence("generation", index, zeros, shape, device) as noise:
        return sampler.sample(denoiser, x, sigmas, noise=noise, condition=condition)
