"""The denoiser: sigma is its only clock. Conventions of networks (noise, v, integer time, variance preserving scaling) end in wrappers."""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion.schedules import Schedule


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of x = x0 + sigma * noise: x0 [B, C, H, W] (not clipped), eps = (x - x0) / sigma, variance of x0 where it was learned."""

    x0: Tensor
    eps: Tensor
    variance: Tensor | None = None

    def clipped(self, x: Tensor, sigma: Tensor) -> "Prediction":
        """x0 clipped to [-1, 1] and eps derived from it again, so that both still say the same of x."""
        x0 = self.x0.clamp(-1, 1)
        return Prediction(x0=x0, eps=(x - x0) / expand(sigma, x), variance=self.variance)


@dataclass(frozen=True)
class Condition:
    """What else a denoiser may be told: label int64 [B] (-1: none), image [B, C', H, W] in [-1, 1], mask [B, 1, H, W] in {0, 1}."""

    label: Tensor | None = None
    image: Tensor | None = None
    mask: Tensor | None = None


class Denoiser(nn.Module, ABC):
    """E[x0 | x] and its relatives, for x = x0 + sigma * noise.

    data_shape: (C, H, W) that it was trained on. sigma_min, sigma_max: the levels that it knows; others are clamped to them with one warning.
    times: how many training times it has (1000 where training was continuous), which spacings of levels refer to.
    """

    data_shape: tuple[int, int, int]
    sigma_min: float
    sigma_max: float
    times: int = 1000

    @abstractmethod
    def level_at(self, time: Tensor) -> Tensor:
        """The level sigma, float64, at training times 0 .. times - 1 (0: least noise)."""

    @abstractmethod
    def predict(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        """x [B, C, H, W] = x0 + sigma * noise, sigma [B] or [B, 1, H, W] in [-1, 1] units; ValueError for other shapes or infinite sigma."""


def expand(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma [B] or [B, 1, H, W] as [B, 1, 1, 1] or itself, so that it multiplies x; ValueError for any other shape."""
    if sigma.shape == x.shape[:1]:
        return sigma.view(-1, *[1] * (x.ndim - 1))
    if sigma.ndim == x.ndim and sigma.shape[0] == x.shape[0] and sigma.shape[1] == 1 and sigma.shape[2:] == x.shape[2:]:
        return sigma
    raise ValueError(f"sigma must have shape [{x.shape[0]}] or [{x.shape[0]}, 1, {', '.join(map(str, x.shape[2:]))}], got {list(sigma.shape)}")


class DiscreteDenoiser(Denoiser):
    """A network that was trained on a discrete variance preserving schedule, asked in sigma.

    With a = 1 / sqrt(1 + sigma^2) and b = sigma a, the network sees a x and the time t(sigma) of the schedule (log-linear between its entries, exact on
    them) and gives o: eps = o (prediction "epsilon"), x0 = o ("x0"), or x0 = a (a x) - b o ("v").

    network: called as network(a x, time [B], label) and gives C channels. prediction: "epsilon", "x0" or "v". data_shape: (C, H, W).
    Source: Karras et al. 2022 (2206.00364), table 1 and C.3.1; Salimans and Ho 2022 (2202.00512) for v.
    """

    def __init__(self, *, network: nn.Module, schedule: Schedule, prediction: str, data_shape: tuple[int, int, int]) -> None:
        super().__init__()
        if prediction not in ("epsilon", "x0", "v"):
            raise ValueError(f"prediction must be 'epsilon', 'x0' or 'v', got '{prediction}'")
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.data_shape = tuple(data_shape)
        self.sigma_min, self.sigma_max = float(schedule.sigmas[0]), float(schedule.sigmas[-1])
        self.times = len(schedule)
        self._warned = False

    def level_at(self, time: Tensor) -> Tensor:
        return self.schedule.sigma_of(time)

    def output(self, x_vp: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        """The network's own output for variance preserving x_vp = a x at `time` [B]; what the training loss is taken on."""
        return self.network(x_vp, time, None if condition is None else condition.label)

    def predict(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        level = expand(sigma, x)
        if sigma.ndim > 1:
            raise ValueError("this denoiser takes one sigma per image [B]; a map of sigmas needs a network that was trained on maps")
        time = self._time(sigma)
        # The scaling is that of the level asked for, also where the time is clamped: x keeps its meaning, the network its nearest time.
        a = torch.rsqrt(1 + level.square())
        output = self.output((a * x).float(), time.float(), condition).to(x.dtype)
        if self.prediction == "epsilon":
            return Prediction(x0=x - level * output, eps=output)
        x0 = output if self.prediction == "x0" else a.square() * x - level * a * output
        return Prediction(x0=x0, eps=(x - x0) / level)

    def _time(self, sigma: Tensor) -> Tensor:
        # One look at the extremes per call; a sampler's own levels are inside the table, so this warns about mistakes only.
        least, most = (float(s) for s in torch.aminmax(sigma))
        if not most < float("inf"):
            raise ValueError(f"sigma must be finite, got {most}: start from the largest level of the schedule, {self.sigma_max:.4g}")
        if least <= 0:
            raise ValueError(f"sigma must be positive, got {least}: at 0 the image is clean and nothing is to be predicted")
        if (least < 0.999 * self.sigma_min or most > 1.001 * self.sigma_max) and not self._warned:
            self._warned = True
            warnings.warn(f"sigma in [{least:.4g}, {most:.4g}] leaves the levels the network knows, [{self.sigma_min:.4g}, {self.sigma_max:.4g}]: clamped")
        return self.schedule.time_of(sigma)
