"""Flow matching on straight paths from the image to noise: a network that gives the velocity, at times drawn uniformly
or from a logit-normal distribution.
"""

import math

import torch
from torch import Tensor, nn

from common.tensor_shapes import Images, Sigma, Times
from diffusion.continuous import ContinuousDenoiser, ContinuousLevels
from diffusion.denoiser import Condition, Prediction, TrainingPair, expand

#: The network is told 1000 t: its time embedding is made for numbers of order 0..1000 whose units it can tell apart.
TIME_SCALE = 1000.0


class FlowTimes(ContinuousLevels):
    """Times t in [t_min, t_max] of the straight path x_t = (1 - t) x0 + t noise; t is the level sigma = t / (1 - t).

    At t = 1 there is noise alone, sigma is infinite, and denoisers take finite levels only. So training and drawing end
    at t_max: drawing begins with x = sigma_max * noise, which lacks 1 - t_max of the image beside t_max of the noise,
    one part in 999 by default.

    Args:
        t_min: the time of least noise, above 0; the default is the level 0.001, an eighth of a step of 8 bits.
        t_max: the time of most noise, below 1; the default is the level 999.

    Raises:
        ValueError: times out of range, 0 and 1 among them.
    """

    def __init__(self, *, t_min: float = 0.001, t_max: float = 0.999) -> None:
        if not 0 < t_min < t_max < 1:
            raise ValueError(
                f"t_min and t_max must satisfy 0 < t_min < t_max < 1, got {t_min} and {t_max}: at t = 1 the level"
                " sigma = t / (1 - t) would be infinite, take 0.999"
            )
        self.t_min, self.t_max = t_min, t_max
        self.sigma_min, self.sigma_max = t_min / (1 - t_min), t_max / (1 - t_max)


class UniformTimes(FlowTimes):
    """t ~ U[t_min, t_max]: the training times of prediction "velocity", in place of a schedule.

    Lipman et al. 2023 (2210.02747); Liu et al. 2023 (2209.03003).

    Args:
        t_min: the time of least noise, above 0; sigma_min = t_min / (1 - t_min).
        t_max: the time of most noise, below 1; sigma_max = t_max / (1 - t_max).

    Raises:
        ValueError: times out of range.
    """

    def quantile(self, u: Tensor) -> Tensor:
        return (self.t_min + u.double() * (self.t_max - self.t_min)).clamp(max=self.t_max)


class LogitNormalTimes(FlowTimes):
    """log(t / (1 - t)) ~ N(mean, std^2), restricted to [t_min, t_max]: more training in the middle of the path.

    As t / (1 - t) is sigma, its levels are those of :class:`diffusion.edm.LogNormal` with p_mean = mean, p_std = std.
    Esser et al. 2024 (2403.03206), section 3.1.

    Args:
        mean: of log(t / (1 - t)), the logarithm of sigma; 0 (default) is the middle of the path.
        std: its standard deviation, positive; 1 (default) was among the best of the paper.
        t_min: the time of least noise, above 0; sigma_min = t_min / (1 - t_min).
        t_max: the time of most noise, below 1; sigma_max = t_max / (1 - t_max).

    Raises:
        ValueError: numbers out of range, and a distribution that lies outside of [t_min, t_max].
    """

    def __init__(self, *, mean: float = 0.0, std: float = 1.0, t_min: float = 0.001, t_max: float = 0.999) -> None:
        super().__init__(t_min=t_min, t_max=t_max)
        if not math.isfinite(mean) or not 0 < std < math.inf:
            raise ValueError(f"mean must be finite and std positive and finite, got {mean} and {std}")
        self.mean, self.std = mean, std
        ends = torch.tensor([t_min, t_max], dtype=torch.float64)
        self._low, self._high = torch.special.ndtr((ends.logit() - mean) / std).tolist()
        if not self._high - self._low > 1e-6:
            raise ValueError(f"mean={mean} and std={std} put hardly any time between t_min={t_min} and t_max={t_max}")

    def quantile(self, u: Tensor) -> Tensor:
        z = torch.special.ndtri(self._low + u.double() * (self._high - self._low))
        return (self.mean + self.std * z).sigmoid().clamp(self.t_min, self.t_max)


class FlowDenoiser(ContinuousDenoiser):
    """x0 = x_t - t v, eps = x_t + (1 - t) v with x_t = (1 - t) x, t = sigma / (1 + sigma): a network that gives the
    velocity v = noise - x0 of the straight path x_t = (1 - t) x0 + t noise, asked in sigma.

    x = x_t / (1 - t) = x0 + sigma * noise with sigma = t / (1 - t), exactly, so that samplers and methods see a
    denoiser like any other. A step of DDIM is Euler's step along the path, x_t' = x_t + (t' - t) v, as both keep x0 and
    eps; Heun's in sigma is a second-order solver of the same flow. Its training times are the t; its thousand times are
    even in t.

    Args:
        network: called as network(x_t, 1000 t [B], label), gives C channels.
        levels: the training times.
        data_shape: (C, H, W).

    Source: Lipman et al. 2023 (2210.02747); Liu et al. 2023 (2209.03003).
    """

    prediction = "velocity"

    def __init__(self, *, network: nn.Module, levels: FlowTimes, data_shape: tuple[int, int, int]) -> None:
        super().__init__(network=network, levels=levels, data_shape=data_shape)
        self.t_min, self.t_max = levels.t_min, levels.t_max

    def _level_at_share(self, share: Tensor) -> Tensor:
        t = self.t_min + share * (self.t_max - self.t_min)
        return (t / (1 - t)).clamp(self.sigma_min, self.sigma_max)

    def training_pair(self, x0: Images, noise: Images, time: Times) -> TrainingPair:
        """(1 - t) x0 + t noise; the target is noise - x0. `time`: t, [B] or [B, 1, H, W]."""
        t = expand(time.to(x0.dtype), x0, "time")
        return TrainingPair(
            input=(1 - t) * x0 + t * noise,
            time=(TIME_SCALE * time).to(x0.dtype),
            target=noise - x0,
            snr=((1 - time) / time).square().to(x0.dtype),
        )

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        level = self._check(x, sigma)
        # 1 - t = 1 / (1 + sigma) is not taken from t, which would lose its digits near t = 1.
        t, rest = level / (1 + level), 1 / (1 + level)
        x_t = rest * x
        # As for a table: the path is that of the level asked for, the network is told the nearest one that it knows.
        known = sigma.double().clamp(self.sigma_min, self.sigma_max)
        v = self.output(x_t.float(), (TIME_SCALE * known / (1 + known)).float(), condition).to(x.dtype)
        # Neither is made of the other, which would lose digits of x0 at large sigma or of eps at small sigma.
        return Prediction(x0=x_t - t * v, eps=x_t + rest * v)
