"""Training losses of a denoiser: mean squared error on the network's own target times a weight that depends on the
noise level, and the hybrid loss.
"""

from typing import cast

import torch
from torch import Tensor

from common.tensor_shapes import Images, PerImage, Times
from diffusion.denoiser import Condition, DiscreteDenoiser, NetworkDenoiser, TrainingPair
from diffusion.variational import reverse_step_bits
from diffusion.weighting.base import Weighting
from diffusion.weighting.simple import Simple


def denoising_loss(
    denoiser: NetworkDenoiser,
    x0: Images,
    noise: Images,
    time: Times,
    *,
    weighting: Weighting | None = None,
    vlb_weight: float = 0.001,
    condition: Condition | None = None,
    pixel_weight: Tensor | None = None,
) -> PerImage:
    """mean of w(t) |f(input, t) - target|^2 over the pixels, one number per image, [B]; with learned variance
    vlb_weight L_vlb is added.

    For a discrete denoiser input is a_t x0 + b_t noise with a_t^2 = alpha_bar_t, b_t^2 = 1 - alpha_bar_t, for EDM's it
    is c_in (x0 + sigma noise), for a flow (1 - t) x0 + t noise; see their `training_pair`. x0 [B, C, H, W] in [-1, 1],
    noise standard normal of the same shape, time [B] as the denoiser's `training_time` gives it, or [B, 1, H, W] where
    every pixel has its own (and then its own weight). pixel_weight [B, 1, H, W] multiplies w(t), for a denoiser without
    learned variance.

    L_vlb is the sum over t of the bound's terms in bits per dimension, of which T times the term at `time` is an
    unbiased estimate. It trains the variance alone: the mean is detached from it. vlb_weight = 0.001 is the paper's; 1
    / T is what OpenAI's code does without its option rescale_learned_sigmas. Nichol and Dhariwal 2021 (2102.09672),
    section 3.1.

    The arithmetic is float32 also where the network runs in a lower precision (float64 where x0 is float64).
    """
    weighting = weighting or Simple()
    given, exact = x0.dtype, torch.promote_types(x0.dtype, torch.float32)
    x0, noise = x0.to(exact), noise.to(exact)
    asked = denoiser.training_pair(x0, noise, time)
    # The time stays exact: in bfloat16 999 would be 1000.
    output = denoiser.output(asked.input.to(given), asked.time, condition).to(exact)
    if not denoiser.learns_variance:
        return weighted_error(denoiser, asked, output, weighting, pixel_weight)
    discrete = cast(DiscreteDenoiser, denoiser)  # no other one learns a variance
    mean, fraction = discrete.parts(output)
    assert fraction is not None
    bits = reverse_step_bits(discrete, x0, discrete.x0_of(asked.input, mean.detach(), time), fraction, time)
    return weighted_error(denoiser, asked, mean, weighting) + vlb_weight * denoiser.num_timesteps * bits


def check_loss(denoiser: NetworkDenoiser, weighting: Weighting, vlb_weight: float) -> None:
    """ValueError for a weighting that does not suit the denoiser, and for a loss that would leave a part of it
    untrained.
    """
    weighting.check(denoiser.prediction, denoiser.sigma_data)
    if denoiser.learns_variance and not 0 < vlb_weight < float("inf"):
        raise ValueError(f"vlb_weight must be positive, or the learned variance is not trained, got {vlb_weight}")
    if denoiser.prediction == "velocity" and float(weighting(torch.zeros(1), denoiser.prediction)) == 0:
        raise ValueError(
            f"weighting {type(weighting).__name__} falls to 0 towards the end t = 1 of the path, where drawing with"
            " prediction 'velocity' begins: take diffusion.weighting.target.Target, the loss of flow matching, or"
            " SNRPlusOne, TruncatedSNR or EDM"
        )
    schedule = getattr(denoiser, "schedule", None)
    if schedule is not None and schedule.ends_in_noise and float(weighting(torch.zeros(1), denoiser.prediction)) == 0:
        raise ValueError(
            f"weighting {type(weighting).__name__} is 0 at the last time of a schedule that ends in pure noise, where"
            " drawing begins: take Target, SNRPlusOne, TruncatedSNR or EDM of diffusion/weighting"
        )


def weighted_error(
    denoiser: NetworkDenoiser,
    asked: TrainingPair,
    output: Tensor,
    weighting: Weighting | None = None,
    pixel_weight: Tensor | None = None,
) -> Tensor:
    """mean of w(t) |output - target|^2 over the pixels, one number per image, [B]; weighting None: Simple; pixel_weight
    [B, 1, H, W]: how much each pixel counts besides.
    """
    weight = (weighting or Simple())(asked.snr, denoiser.prediction, denoiser.sigma_data)
    error = (output - asked.target).square()
    error = error if pixel_weight is None else error * pixel_weight.to(error)
    return weight * error.flatten(1).mean(1) if weight.ndim == 1 else (weight * error).flatten(1).mean(1)
