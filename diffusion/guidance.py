"""Classifier-free guidance as a denoiser around a denoiser, so that every sampler and method can be guided."""

from dataclasses import replace

import torch
from torch import Tensor

from common.tensor_shapes import AnyLevels, AnyTimes, Images, Sigma
from diffusion.denoiser import Condition, Denoiser, Prediction, expand


class Guided(Denoiser):
    """eps = eps_0 + s (eps_c - eps_0) and x0 = x - sigma eps: away from the unconditional prediction, towards the one
    for the label.

    Scale s = 1 is the conditional model and s = 0 the unconditional one, each at one network call; any other scale
    is one call of twice the batch. (The paper's w is s - 1.) It is applied before any clipping, where guidance in
    eps, x0 or v is the same.

    Args:
        denoiser: trained with labels and with labels left out.
        scale: s >= 0.
        interval: (low, high) in sigma, outside of which the conditional model is used as it is; None: all levels.
        rescale: phi in [0, 1] scales every guided x0 by phi std(x0_c) / std(x0) + 1 - phi, per image, against
            over-saturation. An image whose label is -1 is not guided.

    Raises:
        ValueError: options out of range, for a scale other than 1 where the network needs labels, and for a prediction
            without labels at another scale than 0. Ho and Salimans 2022 (2207.12598), equation 6;.
    """

    def __init__(
        self,
        *,
        denoiser: Denoiser,
        scale: float = 1.0,
        interval: tuple[float, float] | None = None,
        rescale: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= scale < float("inf"):
            raise ValueError(f"scale must be finite and at least 0, got {scale}")
        if interval is not None and not 0 <= interval[0] < interval[1]:
            raise ValueError(
                f"interval must be (low, high) with 0 <= low < high in units of sigma, got {tuple(interval)}"
            )
        if not 0 <= rescale <= 1:
            raise ValueError(f"rescale must lie in [0, 1], got {rescale}")
        if scale != 1 and not getattr(getattr(denoiser, "network", None), "null_class", True):
            raise ValueError(
                f"guidance of scale {scale} needs a network that was trained without labels too, and this one knows"
                " classes only: take scale 1"
            )
        self.denoiser, self.scale, self.interval, self.rescale = denoiser, scale, interval, rescale
        self.data_shape, self.num_timesteps = denoiser.data_shape, denoiser.num_timesteps
        self.sigma_min, self.sigma_max, self.learns_variance = (
            denoiser.sigma_min,
            denoiser.sigma_max,
            denoiser.learns_variance,
        )
        self.takes_image, self.takes_maps, self.blind = denoiser.takes_image, denoiser.takes_maps, denoiser.blind

    def level_at(self, time: AnyTimes) -> AnyLevels:
        return self.denoiser.level_at(time)

    def refused(self, least: float, most: float) -> str | None:
        return self.denoiser.refused(least, most)

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        label = None if condition is None else condition.label
        if self.scale == 0:
            return self.denoiser.predict(x, sigma, None if condition is None else replace(condition, label=None))
        if condition is None or label is None:
            raise ValueError(f"guidance of scale {self.scale} needs labels: give condition=Condition(label=...)")
        level = expand(sigma, x)
        inside = (
            torch.ones_like(level, dtype=torch.bool)
            if self.interval is None
            else (level >= self.interval[0]) & (level <= self.interval[1])
        )
        if self.scale == 1 or not bool(inside.any()):
            return self.denoiser.predict(x, sigma, condition)
        both = self.denoiser.predict(torch.cat([x, x]), torch.cat([sigma, sigma]), _twice(condition, label))
        conditional, unconditional = _halves(both)
        x0 = torch.lerp(unconditional.x0, conditional.x0, self.scale)
        eps = torch.lerp(unconditional.eps, conditional.eps, self.scale)
        if self.rescale:
            spread, wanted = (v.flatten(1).std(1).view(-1, 1, 1, 1) for v in (x0, conditional.x0))
            x0 = x0 * (self.rescale * wanted / spread.clamp(min=1e-12) + 1 - self.rescale)
            eps = (x - x0) / level
        # The learned variance stays that of the conditional model, as in guided-diffusion.
        return replace(
            conditional, x0=torch.where(inside, x0, conditional.x0), eps=torch.where(inside, eps, conditional.eps)
        )


def _twice(condition: Condition, label: Tensor) -> Condition:
    """For the batch twice: with its labels and without."""

    def twice(value: Tensor | None) -> Tensor | None:
        return None if value is None else torch.cat([value, value])

    both = torch.cat([label, torch.full_like(label, -1)])
    return replace(condition, label=both, image=twice(condition.image), mask=twice(condition.mask))


def _halves(both: Prediction) -> tuple[Prediction, Prediction]:
    parts = {name: value.chunk(2) for name, value in vars(both).items() if value is not None}
    return replace(both, **{n: p[0] for n, p in parts.items()}), replace(both, **{n: p[1] for n, p in parts.items()})
