"""Denoisers as they are published: pictures in [0, 1], a network that answers with the clean picture, a range of levels
of its own.
"""

import math

from torch import Tensor

from common.errors import UserError
from common.tensor_shapes import Images, Sigma, Times
from diffusion.continuous import ContinuousDenoiser, ContinuousLevels
from diffusion.denoiser import Condition, Prediction, TrainingPair, expand
from diffusion.levels import karras_ramp

#: A network of one level is taken for levels within a tenth of it: an estimated level is hardly better known.
ONE_LEVEL = 0.1
#: The lowest level that a list of levels goes down to where training went down to none, of 255.
LOWEST_255 = 0.5


class UniformLevels(ContinuousLevels):
    """sigma uniform between two levels in training, as published denoisers are trained; both equal: one level alone.

    Args:
        from_255: the lowest level, of 255, at least 0.
        to_255: the highest level, of 255, positive.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(self, *, from_255: float = 0.0, to_255: float = 75.0) -> None:
        if not 0 <= from_255 <= to_255 < math.inf or not to_255 > 0:
            raise ValueError(
                f"from_255 and to_255 must be finite with 0 <= from_255 <= to_255 and 0 < to_255, got {from_255} and"
                f" {to_255}"
            )
        self.from_255, self.to_255 = from_255, to_255
        self.sigma_min = min(max(from_255, LOWEST_255), to_255) / 127.5
        self.sigma_max = to_255 / 127.5

    @property
    def one(self) -> bool:
        """Whether there is one level alone."""
        return self.from_255 == self.to_255

    def knows(self, least: float, most: float) -> bool:
        """Whether all levels between these two, in [-1, 1] units, are in the range: to 0.1 %, of one level alone to a
        tenth.
        """
        slack = ONE_LEVEL if self.one else 1e-3
        return least >= (1 - slack) * self.from_255 / 127.5 and most <= (1 + slack) * self.sigma_max

    def quantile(self, u: Tensor) -> Tensor:
        """The level, float64, below which a share u in [0, 1] of the training levels lies; positive."""
        low, high = self.from_255 / 127.5, self.sigma_max
        return (low + u.double() * (high - low)).clamp(min=1e-6)


class PublishedDenoiser(ContinuousDenoiser):
    """x0 = 2 F((x + 1) / 2, sigma / 2) - 1: the network F sees the noisy picture as it is, in [0, 1], and gives the
    clean one.

    Any size (`any_size`), as padding is the network's own affair. A level beyond `levels` is refused: who wants the
    nearest level in its place clamps to sigma_min and sigma_max himself. `blind`: the network estimates the level from
    the picture, and the level asked for changes nothing but eps.

    Args:
        network: called as network(x in [0, 1], level [B] or [B, 1, H, W] of the same unit, label).
        levels: the levels of training.
        data_shape: (C, H, W). Its training times are the sigmas themselves; its thousand times for spacings are those
            of :class:`~diffusion.edm.EDMDenoiser`.

    Raises:
        UserError: `predict`, for a level beyond the range.
    """

    prediction = "x0"
    levels: UniformLevels

    @property
    def blind(self) -> bool:
        return not getattr(self.network, "takes_level", True)

    def _level_at_share(self, share: Tensor) -> Tensor:
        return karras_ramp(1 - share, self.sigma_min, self.sigma_max)

    def training_pair(self, x0: Images, noise: Images, time: Times) -> TrainingPair:
        """(x0 + sigma noise + 1) / 2 and sigma / 2; the target is (x0 + 1) / 2. `time`: sigma, [B] or [B, 1, H, W]."""
        level = expand(time.to(x0.dtype), x0, "time")
        return TrainingPair(
            input=(x0 + level * noise + 1) / 2,
            time=(time / 2).to(x0.dtype),
            target=(x0 + 1) / 2,
            snr=time.to(x0.dtype).square().reciprocal(),
        )

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        level = self._check(x, sigma)
        unit = self.output((x.float() + 1) / 2, sigma.float() / 2, condition).to(x.dtype)
        x0 = 2 * unit - 1
        return Prediction(x0=x0, eps=(x - x0) / level)

    def _look_at_range(self, least: float, most: float) -> None:
        if reason := self.refused(least, most):
            raise UserError(reason)

    def refused(self, least: float, most: float) -> str | None:
        levels = self.levels
        if levels.knows(least, most):
            return None
        known = f"level {levels.to_255:g}" if levels.one else f"levels {levels.from_255:g} to {levels.to_255:g}"
        asked = 127.5 * (least if levels.knows(most, most) else most)
        return (
            f"the prior ({type(self.network).__name__}) knows noise of {known} of 255, and is asked about sigma_255"
            f" {asked:.4g}: give a prior that knows this level, or a measurement with another"
        )
