"""The denoiser: sigma is its only clock. Conventions of networks (noise, v, integer time, variance preserving scaling)
end in wrappers.
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from common.shapes import image_shape
from common.tensor_shapes import AnyLevels, AnyTimes, Images, Sigma, Times
from diffusion.bins import bin_of, even_bins
from diffusion.learned_variance import StepVariances
from diffusion.schedules import Schedule


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of x = x0 + sigma * noise: x0 [B, C, H, W] (not clipped), eps = (x - x0) / sigma, and, where
    the network learned it, the variance.

    Args:
        variance: Var[x0 | x] of each value, at least 0, [B, C, H, W].
        fraction: the same as the network says it, where the variance of a step of the reverse chain lies between its
            bounds (0 the small one, 1 the large one, in logarithms; see diffusion/learned_variance.py). Both are None
            unless learned.
    """

    x0: Images
    eps: Images
    variance: Images | None = None
    fraction: Tensor | None = None

    def clipped(self, x: Tensor, sigma: Tensor) -> "Prediction":
        """x0 clipped to [-1, 1] and eps derived from it again, so that both still say the same of x."""
        x0 = self.x0.clamp(-1, 1)
        return replace(self, x0=x0, eps=(x - x0) / expand(sigma, x))

    def copied(self) -> "Prediction":
        """In tensors of its own: what inference mode made must not meet a gradient later, a copy of it may."""
        return Prediction(
            self.x0.clone(),
            self.eps.clone(),
            None if self.variance is None else self.variance.clone(),
            None if self.fraction is None else self.fraction.clone(),
        )


@dataclass(frozen=True)
class Condition:
    """What else a denoiser may be told: label int64 [B] (-1: none), image [B, C', H, W] in [-1, 1], mask [B, 1, H, W]
    in {0, 1}.
    """

    label: Tensor | None = None
    image: Tensor | None = None
    mask: Tensor | None = None


class Denoiser(nn.Module, ABC):
    """E[x0 | x] and its relatives, for x = x0 + sigma * noise.

    data_shape: (C, H, W) that it was trained on. sigma_min, sigma_max: the levels that it knows; others are clamped to
    them with one warning, or refused (diffusion/published_denoiser.py). num_timesteps: how many training times it has
    (1000 where training was continuous), which spacings of levels refer to. learns_variance: whether its predictions
    carry `variance` and `fraction`. takes_image: whether it needs Condition(image=...), see
    diffusion/image_conditioning.py. takes_maps: whether sigma may differ from pixel to pixel, [B, 1, H, W]. any_size:
    whether it knows images of every height and width, not of `data_shape` alone. reach: how many pixels around a pixel
    its x0 there may depend on, beyond that pixel's own cell of `multiple` x `multiple` pixels; None where it may depend
    on the whole image. blind: whether it goes by the image alone, so that x0 does not depend on the sigma asked for.
    """

    data_shape: tuple[int, int, int]
    sigma_min: float
    sigma_max: float
    num_timesteps: int = 1000
    learns_variance: bool = False
    takes_image: bool = False
    takes_maps: bool = False
    any_size: bool = False
    reach: int | None = None
    multiple: int = 1
    blind: bool = False

    @abstractmethod
    def level_at(self, time: AnyTimes) -> AnyLevels:
        """The level sigma, float64, at training times 0 .. times - 1 (0: least noise)."""

    @abstractmethod
    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        """x [B, C, H, W] = x0 + sigma * noise, sigma [B], or [B, 1, H, W] where `takes_maps`, in [-1, 1] units;
        ValueError for other shapes and for sigma that is infinite or not positive (a pixel that is known has the level
        sigma_min).
        """

    def refused(self, least: float, most: float) -> str | None:
        """Why it says nothing about levels from `least` to `most`, in one sentence; None where it answers, as a
        denoiser does that clamps.
        """
        del least, most
        return None


def expand(sigma: Tensor, x: Tensor, name: str = "sigma") -> Tensor:
    """sigma [B] or [B, 1, H, W] as [B, 1, 1, 1] or itself, so that it multiplies x; ValueError for any other shape, by
    `name`.
    """
    if sigma.shape == x.shape[:1]:
        return sigma.view(-1, *[1] * (x.ndim - 1))
    if sigma.ndim == x.ndim and sigma.shape[0] == x.shape[0] and sigma.shape[1] == 1 and sigma.shape[2:] == x.shape[2:]:
        return sigma
    raise ValueError(
        f"{name} must have shape [{x.shape[0]}] or [{x.shape[0]}, 1, {', '.join(map(str, x.shape[2:]))}], got"
        f" {list(sigma.shape)}"
    )


@dataclass(frozen=True)
class TrainingPair:
    """What a network is asked in training, and the right answer: input [B, C, H, W] at `time`, target [B, C, H, W],
    snr = 1 / sigma^2; time and snr [B], or [B, 1, H, W] where the level differs from pixel to pixel.
    """

    input: Tensor
    time: Tensor
    target: Tensor
    snr: Tensor


class NetworkDenoiser(Denoiser):
    """A denoiser around a network that can be trained: what the network is asked, at which times, and how its answer is
    read.

    network: called as network(input, time [B], label); with times [B, 1, H, W] where it says `takes_maps`. Trained at
    one level per image it answers a map by what it knows of each level, which nobody has told it is right: training at
    maps is a matter of `training_pair`. prediction: the name of its target.
    sigma_data: of prediction "edm", see diffusion/edm.py.
    """

    network: nn.Module
    prediction: str
    sigma_data: float = 0.5
    _warned = False

    @property
    def takes_maps(self) -> bool:
        return getattr(self.network, "takes_maps", False)

    @property
    def any_size(self) -> bool:
        return getattr(self.network, "any_size", False)

    @property
    def reach(self) -> int | None:
        return getattr(self.network, "reach", None)

    @property
    def multiple(self) -> int:
        return getattr(self.network, "multiple", 1)

    @abstractmethod
    def training_time(self, u: Tensor) -> Tensor:
        """The training times [B] of numbers [B] that are uniform in [0, 1)."""

    @abstractmethod
    def training_pair(self, x0: Images, noise: Images, time: Times) -> TrainingPair:
        """What the network is asked about x0 [B, C, H, W] and standard normal noise at training times [B], or one for
        every pixel, [B, 1, H, W]; ValueError for other shapes.
        """

    @abstractmethod
    def bins(self, count: int) -> list[str]:
        """Names of `count` ranges of training times that are equally frequent in training."""

    @abstractmethod
    def bin_of(self, time: Tensor, count: int) -> Tensor:
        """The range 0 .. count - 1 in which training times lie, int64 of their shape."""

    def output(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        """The network's own output for its own input x at its own time; what the training loss is taken on."""
        return self.network(x, time, None if condition is None else condition.label)

    def _check(self, x: Tensor, sigma: Tensor) -> Tensor:
        """sigma as it multiplies x; ValueError for a map where the network takes none and for impossible levels, one
        warning for levels that the network does not know.
        """
        level = expand(sigma, x)
        if sigma.ndim > 1 and not self.takes_maps:
            raise ValueError(
                f"the network {type(self.network).__name__} takes one sigma per image, [B]; a map of sigmas needs a"
                " network that takes maps, such as networks.unet.UNet"
            )
        # One look at the extremes per call; a sampler's own levels are inside the range, so this warns about mistakes
        # only.
        least, most = (float(s) for s in torch.aminmax(sigma))
        if not most < float("inf"):
            raise ValueError(
                f"sigma must be finite, got {most}: start from the largest level that the network knows,"
                f" {self.sigma_max:.4g}"
            )
        if least <= 0:
            raise ValueError(
                f"sigma must be positive, got {least}: at 0 the image is clean and nothing is to be predicted"
                f" (a pixel that is known exactly takes sigma_min, {self.sigma_min:.4g})"
            )
        self._look_at_range(least, most)
        return level

    def _look_at_range(self, least: float, most: float) -> None:
        """Levels from `least` to `most` are about to be asked for: one warning where the network does not know them."""
        if (least < 0.999 * self.sigma_min or most > 1.001 * self.sigma_max) and not self._warned:
            self._warned = True
            warnings.warn(
                f"sigma in [{least:.4g}, {most:.4g}] leaves the levels the network knows, [{self.sigma_min:.4g},"
                f" {self.sigma_max:.4g}]: clamped"
            )


class DiscreteDenoiser(NetworkDenoiser):
    """A network that was trained on a discrete variance preserving schedule, asked in sigma.

    With a = 1 / sqrt(1 + sigma^2) and b = sigma a, the network sees a x and the time t(sigma) of the schedule
    (log-linear between its entries, exact on them) and gives o: eps = o (prediction "epsilon"), x0 = o ("x0"), or x0
    = a (a x) - b o ("v").

    Args:
        network: called as network(a x, time [B], label) and gives C channels; with variance "learned_range" 2 C, of
            which the second C are 2 u - 1 with the fraction u of diffusion/learned_variance.py, at the training time
            nearest to sigma.
        data_shape: (C, H, W).

    Raises:
        ValueError: unknown names, and for prediction "epsilon" of a schedule that ends in pure noise.

    Source: Karras et al. 2022 (2206.00364), table 1 and C.3.1; Salimans and Ho 2022 (2202.00512) for v; Nichol and
    Dhariwal 2021 (2102.09672) for the variance.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        schedule: Schedule,
        prediction: str,
        data_shape: tuple[int, int, int],
        variance: str = "fixed",
    ) -> None:
        super().__init__()
        if prediction not in ("epsilon", "x0", "v"):
            raise ValueError(f"prediction must be 'epsilon', 'x0' or 'v', got '{prediction}'")
        if variance not in ("fixed", "learned_range"):
            raise ValueError(f"variance must be 'fixed' or 'learned_range', got '{variance}'")
        if prediction == "epsilon" and schedule.ends_in_noise:
            raise ValueError(
                "prediction 'epsilon' says nothing of the image where the schedule ends in pure noise: take 'v' or 'x0'"
                " with ZeroTerminalSNR"
            )
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.variance = variance
        self.data_shape = image_shape(data_shape)
        self.sigma_min, self.sigma_max = float(schedule.sigmas[0]), float(schedule.sigmas[-1])
        self.num_timesteps = len(schedule)
        self.learns_variance = variance == "learned_range"
        self.step_variances = StepVariances(schedule)

    def level_at(self, time: AnyTimes) -> AnyLevels:
        return self.schedule.sigma_of(time)

    def training_time(self, u: Tensor) -> Tensor:
        """floor(u T), int64."""
        return (u * self.num_timesteps).long().clamp_(max=self.num_timesteps - 1)

    def training_pair(self, x0: Images, noise: Images, time: Times) -> TrainingPair:
        """a x0 + b noise at a^2 = alpha_bar_t, b^2 = 1 - alpha_bar_t; the target is noise ("epsilon"), x0 ("x0") or a
        noise - b x0 ("v").
        """
        alpha_bar = self.schedule.alpha_bar_of(time)
        a, b = (expand(v.sqrt().to(x0.dtype), x0, "time") for v in (alpha_bar, 1 - alpha_bar))
        target = {"epsilon": noise, "x0": x0, "v": a * noise - b * x0}[self.prediction]
        return TrainingPair(
            input=a * x0 + b * noise,
            time=time.to(x0.dtype),
            target=target,
            snr=(alpha_bar / (1 - alpha_bar)).to(x0.dtype),
        )

    def x0_of(self, x_vp: Tensor, output: Tensor, time: Tensor) -> Tensor:
        """x0 from what the network says of the image ([B, C, H, W], see `parts`) at integer times [B] or [B, 1, H, W],
        in variance preserving units throughout.
        """
        if self.prediction == "x0":
            return output
        alpha_bar = self.schedule.alpha_bar_of(time)
        a, b = (expand(v.sqrt().to(x_vp.dtype), x_vp, "time") for v in (alpha_bar, 1 - alpha_bar))
        return (x_vp - b * output) / a if self.prediction == "epsilon" else a * x_vp - b * output

    def bins(self, count: int) -> list[str]:
        """ "t000-199": the times from first to last, counted from 0."""
        return [f"t{first:03d}-{last:03d}" for first, last in even_bins(self.num_timesteps, count)]

    def bin_of(self, time: Tensor, count: int) -> Tensor:
        return bin_of(time, self.num_timesteps, count)

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        level = self._check(x, sigma)
        time = self.schedule.time_of(sigma)
        # The scaling is that of the level asked for, also where the time is clamped: x keeps its meaning, the network
        # its nearest time.
        a = torch.rsqrt(1 + level.square())
        output, fraction = self.parts(self.output((a * x).float(), time.float(), condition).to(x.dtype))
        variance = None if fraction is None else self.step_variances.of_x0(fraction, time.round().long())
        if self.prediction == "epsilon":
            return Prediction(x0=x - level * output, eps=output, variance=variance, fraction=fraction)
        x0 = output if self.prediction == "x0" else a.square() * x - level * a * output
        return Prediction(x0=x0, eps=(x - x0) / level, variance=variance, fraction=fraction)

    def parts(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output as (what it says of the image, fraction of the variance or None), each [B, C, H, W]."""
        if not self.learns_variance:
            return output, None
        mean, spread = output.chunk(2, dim=1)
        return mean, (spread + 1) / 2
