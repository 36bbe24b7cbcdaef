"""What a network with learned variance says: where the variance of a reverse step lies between its two bounds, and what
follows for x0.
"""

import torch
from torch import Tensor

from diffusion.schedules import Schedule


class StepVariances:
    """The steps t -> t - 1 of a schedule: log S_t = u log beta_t + (1 - u) log beta~_t, with u the fraction that the
    network gives.

    beta~_t = beta_t (1 - ab_{t-1}) / (1 - ab_t) is the variance of x_{t-1} where x0 is known, beta_t an upper bound of
    it for data of variance at most 1. At t = 0, where beta~ = 0, beta~_1 stands in. Nichol and Dhariwal 2021
    (2102.09672), equation 15.

    The tables, float64 [T]: log_small: log beta~. log_ratio: log(beta / beta~). gained: SNR_{t-1} - SNR_t, which is
    c1^2 / beta~ of the posterior's mean c1 x0 + c2 x_t; infinite at t = 0. They come from alpha-bar, so that the last
    alpha-bar may be 0.
    """

    def __init__(self, schedule: Schedule) -> None:
        noise = 1 - schedule.alphas_bar
        before = torch.cat([noise.new_zeros(1), noise[:-1]])
        small = schedule.betas * before / noise
        small[0] = small[1]
        snr = schedule.alphas_bar / noise
        tables = {
            "log_small": small.log(),
            "log_ratio": schedule.betas.log() - small.log(),
            "gained": torch.cat([snr.new_tensor([torch.inf]), snr[:-1] - snr[1:]]),
        }
        self._tables = {torch.device("cpu"): tables}

    def at(self, time: Tensor) -> dict[str, Tensor]:
        """The rows of all tables at int64 times of any shape, float64, on the device of `time`."""
        if time.device not in self._tables:
            self._tables[time.device] = {
                name: table.to(time.device) for name, table in self._tables[torch.device("cpu")].items()
            }
        return {name: table[time] for name, table in self._tables[time.device].items()}

    def of_x0(self, fraction: Tensor, time: Tensor) -> Tensor:
        """Var[x0 | x_t] = max(S_t - beta~_t, 0) / c1^2, [B, C, H, W]; at t = 0, where the step ends in x0, S_0 itself.

        The variance of the true reverse step is beta~_t + c1^2 Var[x0 | x_t] (law of total variance); this is that
        equation solved. fraction: u, [B, C, H, W]. time: int64 [B], or [B, 1, H, W]: each pixel has its own step. Peng
        et al. 2024 (2402.02149) use it in the same way.
        """
        time = time.view(-1, 1, 1, 1) if time.ndim == 1 else time
        rows = {name: table.to(fraction.dtype) for name, table in self.at(time).items()}
        spread = (fraction * rows["log_ratio"]).clamp(min=0)
        inside = torch.expm1(spread) / rows["gained"]
        return torch.where(time == 0, (rows["log_small"] + fraction * rows["log_ratio"]).exp(), inside)
