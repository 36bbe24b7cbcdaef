"""The variational bound of a discrete diffusion model, in bits per dimension: its terms, and the whole of it.

    -log2 p(x0) / D <= prior + sum_{t = 1}^{T - 1} KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t))
                       - log2 p(x0 | x_0) at t = 0

Ho et al. 2020 (2006.11239), equation 5 and section 3.3; Nichol and Dhariwal 2021 (2102.09672), section 2.1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.denoiser import Condition, DiscreteDenoiser, expand

#: What the fixed variances are as fractions between the small and the large one.
FIXED = {"fixed_small": 0.0, "fixed_large": 1.0}


@dataclass(frozen=True)
class Bound:
    """Bits per dimension of each image: total [B] = prior [B] + decoder [B] (t = 0) + T - 1 times the mean of chain [B,
    K] (one column per asked time).
    """

    total: Tensor
    prior: Tensor
    decoder: Tensor
    chain: Tensor


def reverse_step_bits(
    denoiser: DiscreteDenoiser, x0: Tensor, x0_hat: Tensor, fraction: Tensor | float, time: Tensor
) -> Tensor:
    """One term of the bound, [B], in bits per dimension: at t > 0, with r = log S - log beta~ = u log(beta / beta~) and
    d = SNR_{t-1} - SNR_t,

        KL = (r + e^-r (1 + d (x0 - x0_hat)^2) - 1) / 2,

    which is the papers' divergence of two normal distributions of means c1 x0 + c2 x_t and c1 x0_hat + c2 x_t, as c1^2
    / beta~ = d. At t = 0 it is :func:`pixel_nll` of N(x0_hat, S_0).

    x0, x0_hat [B, C, H, W]: the image and the estimate of it from x_t. fraction: u, [B, C, H, W] or a number (0: small
    variance, 1: large variance, which is the small one at t = 0 as in Ho et al.). time: int64 [B], or [B, 1, H, W]
    where each pixel takes its own step, whose divergence it is then.
    """
    time = expand(time, x0, "time")
    rows = {name: table.to(x0.dtype) for name, table in denoiser.step_variances.at(time).items()}
    first = time == 0
    fraction = torch.as_tensor(fraction, dtype=x0.dtype, device=x0.device)
    spread = fraction * rows["log_ratio"]
    # At t = 0 d is infinite; the zero in its place keeps the branch that is not taken finite, and its gradient.
    gained = torch.where(first, 0.0, rows["gained"])
    divergence = 0.5 * (spread + torch.exp(-spread) * (1 + gained * (x0 - x0_hat).square()) - 1)
    at_first = spread if fraction.ndim else torch.zeros_like(spread)
    nats = torch.where(first, pixel_nll(x0, x0_hat, (rows["log_small"] + at_first) / 2), divergence)
    return nats.flatten(1).mean(1) / math.log(2)


def pixel_nll(x0: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """-log P(the 8-bit value of x0) under N(mean, std^2), in nats, elementwise: the mass of [x0 - 1/255, x0 + 1/255],
    without end for the values 0 and 255.

    Evaluated in float64 from logarithms of the normal distribution function, so that no tail is cut off (the papers'
    code approximates it by a tanh and floors the mass at 1e-12). x0 in [-1, 1] on the grid of 8-bit values. Ho et al.
    2020 (2006.11239), equation 13.
    """
    x0, mean, log_std = x0.double(), mean.double(), log_std.double()
    low, high = ((x0 - mean + s / 255) * torch.exp(-log_std) for s in (-1, 1))
    # On the side where both distribution values are small, their difference is exact.
    flip = low > -high
    upper = torch.special.log_ndtr(torch.where(flip, -low, high))
    lower = torch.special.log_ndtr(torch.where(flip, -high, low))
    inside = upper + torch.log1p(-torch.exp(lower - upper))
    black, white = x0 < -0.999, x0 > 0.999
    return -torch.where(black, torch.special.log_ndtr(high), torch.where(white, torch.special.log_ndtr(-low), inside))


def prior_bits(denoiser: DiscreteDenoiser, x0: Tensor) -> Tensor:
    """KL(q(x_{T-1} | x0) || N(0, 1)) = (ab x0^2 - ab - log(1 - ab)) / 2 at the last alpha-bar, [B], in bits per
    dimension; 0 where the last ab is 0.
    """
    alpha_bar = float(denoiser.schedule.alphas_bar[-1])
    nats = 0.5 * (alpha_bar * x0.double().square() - alpha_bar - math.log1p(-alpha_bar))
    return nats.flatten(1).mean(1) / math.log(2)


@torch.no_grad()
def bound_term(
    denoiser: DiscreteDenoiser,
    x0: Tensor,
    noise: Tensor,
    time: Tensor,
    *,
    variance: str = "learned",
    condition: Condition | None = None,
    clip: bool = True,
) -> Tensor:
    """The term of the bound at `time` int64 [B], [B], in bits per dimension, by one network call on x_t made of x0 and
    noise [B, C, H, W].

    variance: "learned", "fixed_small" or "fixed_large"; ValueError for "learned" where the network did not learn it.
    clip: clip the estimate of x0.
    """
    if variance not in ("learned", *FIXED) or (variance == "learned" and not denoiser.learns_variance):
        raise ValueError(
            "variance must be 'fixed_small' or 'fixed_large', or 'learned' for a denoiser that learned it, got"
            f" '{variance}'"
        )
    asked = denoiser.training_pair(x0, noise, time)
    mean, fraction = denoiser.parts(denoiser.output(asked.input, asked.time, condition).to(x0.dtype))
    x0_hat = denoiser.x0_of(asked.input, mean, time)
    share = FIXED.get(variance, fraction)
    assert share is not None  # a network that learned its variance says it
    return reverse_step_bits(denoiser, x0, x0_hat.clamp(-1, 1) if clip else x0_hat, share, time)


def chain_time(u: Tensor, times: int) -> tuple[Tensor, Tensor]:
    """(t, 1 / p(t)), each [B], with p(t) proportional to 1 / t on 1 .. T - 1, from numbers u [B] uniform in [0, 1).

    The terms of the bound fall about as 1 / t (d grows as the cube of 1 / t, the error of x0 falls as its square), so
    that a term times 1 / p(t) estimates their sum with little scatter; uniform times would rarely meet the few that
    matter.
    """
    share = torch.arange(1, times, dtype=torch.float64, device=u.device).reciprocal()
    total = share.sum()
    time = 1 + torch.searchsorted((share / total).cumsum(0), u.double(), right=True).clamp(max=times - 2)
    return time, time * total


def variational_bound(
    denoiser: DiscreteDenoiser,
    x0: Tensor,
    noise: Callable[[int], Tensor],
    *,
    times: Sequence[int] | None = None,
    variance: str = "learned",
    condition: Condition | None = None,
    clip: bool = True,
) -> Bound:
    """The bound of each image; one network call per time.

    x0: [B, C, H, W] in [-1, 1] on the grid of 8-bit values. noise(t): standard normal [B, C, H, W] for time t. times:
    those of 1 .. T - 1 that are asked beside t = 0, None for all; T - 1 times their mean estimates the sum, without
    bias where they are drawn uniformly. variance, clip: see :func:`bound_term`. ValueError for times outside of 1 .. T
    - 1.
    """
    asked = range(1, denoiser.num_timesteps) if times is None else times
    if not asked or min(asked) < 1 or max(asked) >= denoiser.num_timesteps:
        raise ValueError(
            f"times must lie in 1 .. {denoiser.num_timesteps - 1} and be at least one, got {list(asked)[:8]}"
        )

    def term(t: int) -> Tensor:
        time = torch.full(x0.shape[:1], t, dtype=torch.long, device=x0.device)
        return bound_term(denoiser, x0, noise(t), time, variance=variance, condition=condition, clip=clip)

    prior, decoder, chain = prior_bits(denoiser, x0), term(0), torch.stack([term(t) for t in asked], 1)
    return Bound(
        total=prior + decoder + (denoiser.num_timesteps - 1) * chain.mean(1), prior=prior, decoder=decoder, chain=chain
    )
