"""Noise schedules: tables of alpha-bar that a network is trained on; lists of levels for sampling are in levels.py."""

import math
from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor

from common.build import Recorded


class TrainingLevels(Recorded, ABC):
    """Which noise levels a network is trained on: a table of them, a :class:`Schedule`, or for EDM and flow matching a
    distribution, diffusion/continuous.py.
    """


class Schedule(TrainingLevels):
    """alpha_bar_t = prod_{s <= t} (1 - beta_s), sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t), t = 0 .. T - 1.

    betas, alphas_bar, sigmas: float64 [T], sigmas strictly increasing and finite.

    Args:
        betas: variance added at each step, float64 [T], in (0, 1]; a leaf computes it.
    """

    def __init__(self, betas: Tensor) -> None:
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(
                f"every beta must lie strictly between 0 and 1, got {float(betas.min()):.4g} .."
                f" {float(betas.max()):.4g}; use more steps"
            )
        self.betas = betas.double()
        # In logarithms: a product of a thousand numbers close to 1 loses digits, a sum of log1p does not.
        log_alphas_bar = torch.log1p(-self.betas).cumsum(0)
        self.alphas_bar = log_alphas_bar.exp()
        self.sigmas = torch.expm1(-log_alphas_bar).sqrt()
        # alpha-bar and log sigma where they were asked for
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def ends_in_noise(self) -> bool:
        """Whether the last alpha-bar is exactly 0: nothing of the image is left (zero terminal signal-to-noise
        ratio).
        """
        return float(self.alphas_bar[-1]) == 0

    def __len__(self) -> int:
        return len(self.betas)

    def time_of(self, sigma: Tensor) -> Tensor:
        """t(sigma), float64 of sigma's shape: linear in log sigma between the table's entries, exact on them, clamped
        to 0 .. T - 1.
        """
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
            raise ValueError(
                f"time must lie in 0 .. {len(self) - 1}, got {float(time.min()):.6g} .. {float(time.max()):.6g}"
            )
        _, table = self._on(time.device)
        low = time.double().floor().long().clamp(0, len(table) - 2)
        return torch.lerp(table[low], table[low + 1], time.double() - low).exp()

    def alpha_bar_of(self, time: Tensor) -> Tensor:
        """alpha_bar_t in float64 for int64 times 0 .. T - 1 of any shape, on the device of `time`; what training
        needs.
        """
        return self._on(time.device)[0][time]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._tables:
            self._tables[device] = (self.alphas_bar.to(device), self.sigmas.log().to(device))
        return self._tables[device]


class Linear(Schedule):
    """beta_t = linspace(beta_start, beta_end, T) with both ends scaled by 1000 / T.

    Ho et al. 2020 (2006.11239) for T = 1000; the scaling for other T is that of Nichol and Dhariwal.

    Args:
        steps: T, the number of training times.
        beta_start: beta at t = 0 for T = 1000 (default 1e-4, Ho et al. 2020).
        beta_end: beta at t = T - 1 for T = 1000 (default 0.02, Ho et al. 2020).

    Raises:
        ValueError: where an end reaches 1 (T < 21).
    """

    def __init__(self, *, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        _check(steps)
        scale = 1000 / steps
        self.beta_start, self.beta_end = beta_start, beta_end
        super().__init__(torch.linspace(scale * beta_start, scale * beta_end, steps, dtype=torch.float64))


class Cosine(Schedule):
    """beta_i = min(1 - f((i + 1) / T) / f(i / T), 0.999), f(u) = cos^2((u + s) / (1 + s) * pi / 2).

    Args:
        steps: T.
        offset: s. Nichol and Dhariwal 2021 (2102.09672), equation 17.
    """

    def __init__(self, *, steps: int = 1000, offset: float = 0.008) -> None:
        _check(steps)
        self.offset = offset
        u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        f = torch.cos((u + offset) / (1 + offset) * math.pi / 2).square()
        super().__init__((1 - f[1:] / f[:-1]).clamp(max=0.999))


class ScaledLinear(Schedule):
    """beta_t = linspace(sqrt(beta_start), sqrt(beta_end), T)^2 with both ends scaled by 1000 / T as in :class:`Linear`.

    Rombach et al. 2022 (2112.10752), whose constants for T = 1000 are the defaults; "quad" in Ho's code.

    Args:
        steps: T, the number of training times.
        beta_start: beta at t = 0 for T = 1000 (default 0.00085, Rombach et al.).
        beta_end: beta at t = T - 1 for T = 1000 (default 0.012, Rombach et al.).
    """

    def __init__(self, *, steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> None:
        _check(steps)
        self.beta_start, self.beta_end = beta_start, beta_end
        start, end = (math.sqrt(1000 / steps * beta) for beta in (beta_start, beta_end))
        super().__init__(torch.linspace(start, end, steps, dtype=torch.float64).square())


class SigmoidAlphaBar(Schedule):
    """alpha_bar(u) = [S(e / tau) - S((u (e - b) + b) / tau)] / [S(e / tau) - S(b / tau)], S the logistic function, u =
    (t + 1) / T.

    Betas follow from it as in :class:`Cosine` and are cut off at 0.999.

    Not the schedule that others call "sigmoid" too, which is :class:`SigmoidBeta`. Jabri et al. 2022 (2212.11972) and
    Chen 2023 (2301.10972), who advise it for images larger than 64x64.

    Args:
        steps: T.
        start: b, where the logistic function begins; below `end`.
        end: e, where it ends.
        tau: its temperature, positive: a larger one keeps the image longer.

    Raises:
        ValueError: options out of range.
    """

    def __init__(self, *, steps: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> None:
        _check(steps)
        if not (-math.inf < start < end < math.inf and 0 < tau < math.inf):
            raise ValueError(
                f"start must be less than end and tau positive, all finite, got start={start}, end={end}, tau={tau}"
            )
        u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        # S(e) - S(x) of the definition is S(-x) - S(-e).
        alphas_bar = torch.sigmoid(-(u * (end - start) + start) / tau) - torch.sigmoid(
            torch.tensor(-end / tau, dtype=torch.float64)
        )
        super().__init__((1 - alphas_bar[1:] / alphas_bar[:-1]).clamp(max=0.999))


class SigmoidBeta(Schedule):
    """beta_t = S(linspace(-6, 6, T)) (beta_end - beta_start) + beta_start, S the logistic function, both ends scaled by
    1000 / T as in :class:`Linear`.

    The "sigmoid" of diffusers and of ermongroup/ddim. Not the schedule of Jabri and Chen, which is
    :class:`SigmoidAlphaBar`.

    Args:
        steps: T, the number of training times.
        beta_start: limit of beta at the start, for T = 1000 (default 1e-4).
        beta_end: limit of beta at the end, for T = 1000 (default 0.02).
    """

    def __init__(self, *, steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        _check(steps)
        self.beta_start, self.beta_end = beta_start, beta_end
        ramp = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
        super().__init__(1000 / steps * (ramp * (beta_end - beta_start) + beta_start))


class Tabulated(Schedule):
    """beta_t as given, t = 0 .. T - 1: for networks of others whose schedule has no name here.

    Args:
        betas: at least two numbers in (0, 1).

    Raises:
        ValueError: others.
    """

    def __init__(self, *, betas: Sequence[float]) -> None:
        _check(len(betas))
        super().__init__(torch.tensor([float(beta) for beta in betas], dtype=torch.float64))


class ZeroTerminalSNR(Schedule):
    """r_t <- (r_t - r_{T-1}) r_0 / (r_0 - r_{T-1}) for r = sqrt(alpha_bar) of another schedule: r_0 stays, r_{T-1} is
    0.

    Usual schedules leave a trace of the image at the last time, and sampling then begins with what the network has
    never seen, pure noise. Here training has alpha_bar_{T-1} = 0 and beta_{T-1} = 1 exactly. Needs prediction "v" or
    "x0" (epsilon says nothing where there is noise only) and spacing "trailing" or "linspace", which begin at the
    last time.

    The level of that time is infinite, and sigma, the clock of denoisers, must be finite: `sigmas` ends in the
    stand-in STAND_IN = 2^20. There a network sees a x = (x0 + 2^20 noise) / sqrt(1 + 2^40), which differs from pure
    noise by 1e-6 x0; and as the number is a power of two, x = 2^20 noise is noise to the last bit of float32.
    `time_of` takes every level above sigma_{T-2} to times between T - 2 and T - 1.

    Args:
        schedule: the one that is changed. Lin et al. 2023 (2305.08891), algorithm 1. Never for a network that was
            trained without it.

    Raises:
        ValueError: a schedule so long that sigma_{T-2} would reach the stand-in.
    """

    STAND_IN = 2.0**20

    def __init__(self, *, schedule: Schedule) -> None:
        self.base = schedule
        root = schedule.alphas_bar.sqrt()
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        # Without the last time it is a schedule like any other; the base class checks and sums it.
        super().__init__(torch.cat([schedule.betas[:1], 1 - (root[1:-1] / root[:-2]).square()]))
        if float(self.sigmas[-1]) >= self.STAND_IN:
            raise ValueError(
                "schedule is too long for a zero terminal signal-to-noise ratio: give it fewer steps than"
                f" {len(schedule)}"
            )
        self.betas, self.alphas_bar, self.sigmas = (
            torch.cat([table, table.new_tensor([last])])
            for table, last in ((self.betas, 1.0), (self.alphas_bar, 0.0), (self.sigmas, self.STAND_IN))
        )


def _check(steps: int) -> None:
    # Between the levels of the table sigma is interpolated, which takes two.
    if steps < 2:
        raise ValueError(f"steps must be at least 2, got {steps}")
