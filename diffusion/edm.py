"""Continuous-time training as in EDM: levels drawn from a log-normal distribution, a network that is scaled to unit
variance.
"""

import math

import torch
from torch import Tensor, nn

from common.tensor_shapes import Images, Sigma, Times
from diffusion.continuous import ContinuousDenoiser, ContinuousLevels
from diffusion.denoiser import Condition, Prediction, TrainingPair, expand
from diffusion.levels import karras_ramp

#: 100 log(sigma) is what the network is told: its time embedding is made for numbers of order 0..1000 whose units it
#: can tell apart, and a unit is then one per cent of sigma, about the distance between neighbours of a schedule of 1000
#: times. (EDM's log(sigma) / 4 is for another embedding.)
TIME_SCALE = 100.0


class LogNormal(ContinuousLevels):
    """sigma = exp(p_mean + p_std N(0, 1)), restricted to [sigma_min, sigma_max]: the levels of training with prediction
    "edm", in place of a schedule.

    Karras et al. 2022 (2206.00364), table 1.

    Args:
        p_mean: mean of log sigma (default: EDM's for natural images).
        p_std: standard deviation of log sigma.
        sigma_min: the lowest level that sampling uses, in [-1, 1] units.
        sigma_max: the highest level that sampling uses, in [-1, 1] units; the defaults cut off 2e-5 of the
            distribution.

    Raises:
        ValueError: numbers out of range, an infinite sigma_max among them.
    """

    def __init__(
        self, *, p_mean: float = -1.2, p_std: float = 1.2, sigma_min: float = 0.002, sigma_max: float = 80.0
    ) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(
                f"sigma_min and sigma_max must be finite with 0 < sigma_min < sigma_max, got {sigma_min} and"
                f" {sigma_max}"
            )
        if not math.isfinite(p_mean) or not 0 < p_std < math.inf:
            raise ValueError(f"p_mean must be finite and p_std positive, got {p_mean} and {p_std}")
        self.p_mean, self.p_std, self.sigma_min, self.sigma_max = p_mean, p_std, sigma_min, sigma_max
        ends = torch.tensor([sigma_min, sigma_max], dtype=torch.float64)
        self._low, self._high = torch.special.ndtr((ends.log() - p_mean) / p_std).tolist()
        if not self._high - self._low > 1e-6:
            raise ValueError(
                f"p_mean={p_mean} and p_std={p_std} put hardly any level between sigma_min={sigma_min} and"
                f" sigma_max={sigma_max}"
            )

    def quantile(self, u: Tensor) -> Tensor:
        """The level, float64, below which a share u in [0, 1] of the training levels lies."""
        z = torch.special.ndtri(self._low + u.double() * (self._high - self._low))
        return (self.p_mean + self.p_std * z).exp().clamp(self.sigma_min, self.sigma_max)


class EDMDenoiser(ContinuousDenoiser):
    """D = c_skip x + c_out F(c_in x, 100 log sigma), with s = sigma_data:

        c_skip = s^2 / (sigma^2 + s^2),  c_out = sigma s / sqrt(sigma^2 + s^2),  c_in = 1 / sqrt(sigma^2 + s^2).

    The network F sees and gives unit variance where the data have mean 0 and standard deviation s. For s = 1 it is
    prediction "v" with the other sign.

    Args:
        network: called as network(c_in x, 100 log sigma [B], label), gives C channels.
        levels: the training levels.
        sigma_data: s, positive.
        data_shape: (C, H, W). Its `num_timesteps` are a thousand, evenly spaced in sigma^(1/7) from sigma_min to
            sigma_max, so that all spacings have a meaning and "linspace" is "karras" to within rounding to whole times.
            Its training times are the sigmas themselves, float64. Karras et al. 2022 (2206.00364), table 1 and equation
            7.

    Raises:
        ValueError: a sigma_data that is not positive.
    """

    prediction = "edm"

    def __init__(
        self, *, network: nn.Module, levels: LogNormal, sigma_data: float, data_shape: tuple[int, int, int]
    ) -> None:
        super().__init__(network=network, levels=levels, data_shape=data_shape)
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.sigma_data = sigma_data

    def _level_at_share(self, share: Tensor) -> Tensor:
        return karras_ramp(1 - share, self.sigma_min, self.sigma_max)

    def training_pair(self, x0: Images, noise: Images, time: Times) -> TrainingPair:
        """c_in (x0 + sigma noise); the target is (x0 - c_skip x) / c_out = (sigma x0 / s - s noise) / sqrt(sigma^2 +
        s^2). `time`: sigma, [B] or [B, 1, H, W].
        """
        level, s = expand(time.to(x0.dtype), x0, "time"), self.sigma_data
        c_in = torch.rsqrt(level.square() + s**2)
        target = c_in * (level / s * x0 - s * noise)
        return TrainingPair(
            input=c_in * (x0 + level * noise),
            time=self._clock(time).to(x0.dtype),
            target=target,
            snr=time.to(x0.dtype).square().reciprocal(),
        )

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        level, s = self._check(x, sigma), self.sigma_data
        c_in = torch.rsqrt(level.square() + s**2)
        # As for a table: the scaling is that of the level asked for, the network is told the nearest one that it knows.
        output = self.output(
            (c_in * x).float(), self._clock(sigma.double().clamp(self.sigma_min, self.sigma_max)).float(), condition
        ).to(x.dtype)
        # Neither is made of the other, which would lose digits of x0 at large sigma or of eps at small sigma.
        return Prediction(x0=s * c_in * (s * c_in * x + level * output), eps=c_in * (c_in * level * x - s * output))

    def _clock(self, sigma: Tensor) -> Tensor:
        return TIME_SCALE * sigma.double().log()
