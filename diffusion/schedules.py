"""Noise schedules: tables of alpha-bar that a network is trained on; lists of levels for sampling are in levels.py."""

import math
from abc import ABC

import torch
from torch import Tensor

from common.build import Recorded


class Schedule(Recorded, ABC):
    """alpha_bar_t = prod_{s <= t} (1 - beta_s), sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t), t = 0 .. T - 1.

    betas, alphas_bar, sigmas: float64 [T], sigmas strictly increasing.
    """

    def __init__(self, betas: Tensor) -> None:
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(f"every beta must lie strictly between 0 and 1, got {float(betas.min()):.4g} .. {float(betas.max()):.4g}; use more steps")
        self.betas = betas.double()
        # In logarithms: a product of a thousand numbers close to 1 loses digits, a sum of log1p does not.
        log_alphas_bar = torch.log1p(-self.betas).cumsum(0)
        self.alphas_bar = log_alphas_bar.exp()
        self.sigmas = torch.expm1(-log_alphas_bar).sqrt()
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}  # alpha-bar and log sigma where they were asked for

    def __len__(self) -> int:
        return len(self.betas)

    def time_of(self, sigma: Tensor) -> Tensor:
        """t(sigma), float64 of sigma's shape: linear in log sigma between the table's entries, exact on them, clamped to 0 .. T - 1."""
        _, table = self._on(sigma.device)
        log_sigma = sigma.double().log().contiguous()
        upper = torch.searchsorted(table, log_sigma).clamp(1, len(table) - 1)
        low, high = table[upper - 1], table[upper]
        time = (upper - 1 + (log_sigma - low) / (high - low)).clamp(0, len(table) - 1)
        # float32 levels come from a float64 table: what lies within their rounding of an entry is that entry.
        nearest = time.round()
        return torch.where((time - nearest).abs() < 1e-4, nearest, time)

    def sigma_of(self, time: Tensor) -> Tensor:
        """sigma(t) in float64, the inverse of :meth:`time_of` on 0 .. T - 1; ValueError outside."""
        if time.numel() and not 0 <= float(time.min()) <= float(time.max()) <= len(self) - 1:
            raise ValueError(f"time must lie in 0 .. {len(self) - 1}, got {float(time.min()):.6g} .. {float(time.max()):.6g}")
        _, table = self._on(time.device)
        low = time.double().floor().long().clamp(0, len(table) - 2)
        return torch.lerp(table[low], table[low + 1], time.double() - low).exp()

    def alpha_bar_of(self, time: Tensor) -> Tensor:
        """alpha_bar_t in float64 for int64 times 0 .. T - 1 of any shape, on the device of `time`; what training needs."""
        return self._on(time.device)[0][time]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._tables:
            self._tables[device] = (self.alphas_bar.to(device), self.sigmas.log().to(device))
        return self._tables[device]


class Linear(Schedule):
    """beta_t = linspace(beta_start, beta_end, T) with both ends scaled by 1000 / T.

    steps: T. Ho et al. 2020 (2006.11239) for T = 1000; the scaling for other T is that of Nichol and Dhariwal. ValueError where an end reaches 1 (T < 21).
    """

    def __init__(self, *, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        _check(steps)
        scale = 1000 / steps
        super().__init__(torch.linspace(scale * beta_start, scale * beta_end, steps, dtype=torch.float64))


class Cosine(Schedule):
    """beta_i = min(1 - f((i + 1) / T) / f(i / T), 0.999), f(u) = cos^2((u + s) / (1 + s) * pi / 2).

    steps: T. offset: s. Nichol and Dhariwal 2021 (2102.09672), equation 17.
    """

    def __init__(self, *, steps: int = 1000, offset: float = 0.008) -> None:
        _check(steps)
        u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        f = torch.cos((u + offset) / (1 + offset) * math.pi / 2).square()
        super().__init__((1 - f[1:] / f[:-1]).clamp(max=0.999))


def _check(steps: int) -> None:
    # Between the levels of the table sigma is interpolated, which takes two.
    if steps < 2:
        raise ValueError(f"steps must be at least 2, got {steps}")
