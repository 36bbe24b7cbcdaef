"""Training losses of a denoiser: mean squared error on the network's own target times a weight that depends on the noise level."""

import torch
from torch import Tensor

from diffusion.denoiser import Condition, DiscreteDenoiser

WEIGHTINGS = ("simple", "target", "min_snr")


def weight(snr: Tensor, *, prediction: str, weighting: str, gamma: float = 5.0) -> Tensor:
    """w(SNR) of the squared error on the network's own target, SNR = alpha_bar / (1 - alpha_bar) = 1 / sigma^2.

    "simple" is uniform on epsilon, "target" uniform on the own target, "min_snr" is min(SNR, gamma) on x0. They are converted to the own target by
    MSE_epsilon = SNR MSE_x0 and MSE_v = (SNR + 1) MSE_x0. Ho et al. 2020 (2006.11239), equation 14; Hang et al. 2023 (2303.09556), equation 8.
    snr: any shape, positive. gamma: positive, used by "min_snr". ValueError for an unknown name or a gamma that is not positive.
    """
    if weighting not in WEIGHTINGS or gamma <= 0:
        raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)} and gamma positive, got '{weighting}' and {gamma}")
    if weighting == "target":
        return torch.ones_like(snr)
    on_x0 = snr if weighting == "simple" else snr.clamp(max=gamma)
    return on_x0 / {"x0": torch.ones_like(snr), "epsilon": snr, "v": snr + 1}[prediction]


def denoising_loss(
    denoiser: DiscreteDenoiser,
    x0: Tensor,
    noise: Tensor,
    time: Tensor,
    *,
    weighting: str = "simple",
    gamma: float = 5.0,
    condition: Condition | None = None,
) -> Tensor:
    """w(t) mean |f(a_t x0 + b_t noise, t) - target|^2 over the pixels, with a_t^2 = alpha_bar_t, b_t^2 = 1 - alpha_bar_t: one number per image, [B].

    x0 [B, C, H, W] in [-1, 1], noise standard normal of the same shape, time int64 [B] in 0 .. T - 1. The target is noise ("epsilon"), x0 ("x0") or
    a_t noise - b_t x0 ("v"). The arithmetic is float32 also where the network runs in a lower precision (float64 where x0 is float64).
    """
    given, exact = x0.dtype, torch.promote_types(x0.dtype, torch.float32)
    x0, noise = x0.to(exact), noise.to(exact)
    alpha_bar = denoiser.schedule.alpha_bar_of(time)
    a, b = (v.sqrt().to(exact).view(-1, 1, 1, 1) for v in (alpha_bar, 1 - alpha_bar))
    # The time stays exact: in bfloat16 999 would be 1000.
    output = denoiser.output((a * x0 + b * noise).to(given), time.to(exact), condition).to(exact)
    target = {"epsilon": noise, "x0": x0, "v": a * noise - b * x0}[denoiser.prediction]
    snr = (alpha_bar / (1 - alpha_bar)).to(exact)
    return weight(snr, prediction=denoiser.prediction, weighting=weighting, gamma=gamma) * (output - target).square().flatten(1).mean(1)
