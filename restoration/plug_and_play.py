"""Plug-and-play: the data term by its proximal step, the prior by a denoiser, in turns at falling levels."""

import torch

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.identity import IdentityOperator
from degradations.linear import proximal
from degradations.measurement import Measurement
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import predictor
from restoration.base import Cost, Method, OnStep, Restoration
from restoration.first_guess import first_guess
from restoration.turns import turned, turned_back

#: Steps, and the first and the last level in grey levels, by what happened to the picture: DPIR's of a blur; the
#: others, as the weight, found on four pieces of BSDS400, docs/results/photographs.md.
SETTINGS = {"blur": (8, 49.0, 0.0), "super_resolution": (8, 49.0, 4.0), "holes": (20, 25.0, 2.0)}
LEAST_NOISE = 2 * 0.255 / 255  # what a measurement without noise is taken to have, in [-1, 1] units (DPIR's code)
TOLERANCE = 1e-3  # of a data step without a closed form: the next one goes on where it ended


class PlugAndPlay(Method):
    """z_k = argmin_z |A z - y|^2 + a_k |z - x_(k-1)|^2, x_k = D(z_k, sigma_k), a_k = weight sigma^2 / sigma_k^2, with
    sigma_1 > ... > sigma_K evenly spaced in their logarithms.

    Half-quadratic splitting of |A x - y|^2 / (2 sigma^2) + weight R(x), sigma the noise of y, where the denoiser D
    stands for the proximal step of sigma_k^2 R. It begins with a first guess, and ends with the denoiser, or, where y
    has no noise, with one more data step. Noise alone (A = I) is one call of the denoiser, no noise at all is y. Levels
    that the denoiser does not know become the nearest that it knows. Zhang et al. 2017 (1704.03264), 2021 (2008.13751).

    Args:
        prior: the denoiser.
        steps: K; null for 8, as in DPIR, and 20 for a picture with holes.
        weight: of the prior; more is smoother.
        first_sigma_255: sigma_1 in grey levels; null for 49, as in DPIR, 25 with holes, and the noise of y where that
            is more.
        last_sigma_255: sigma_K in grey levels, where the noise of y is not more; null for 4 of a smaller picture, 2
            with holes.
        turns: show the denoiser the picture turned and mirrored, another way at each step; null for priors of any size.
        clip: clip what the denoiser says to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True
    deterministic = True
    cost_varies = True
    needs = frozenset({"proximal", "white_noise"})
    prior: Denoiser

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = None,
        weight: float = 0.15,
        first_sigma_255: float | None = None,
        last_sigma_255: float | None = None,
        turns: bool | None = None,
        clip: bool = True,
    ) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        given = {"weight": weight, "first_sigma_255": first_sigma_255, "last_sigma_255": last_sigma_255}
        for name, value in given.items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if first_sigma_255 is not None and last_sigma_255 is not None and first_sigma_255 < last_sigma_255:
            raise ValueError(
                f"first_sigma_255 must be at least last_sigma_255, as levels fall, got {first_sigma_255} and"
                f" {last_sigma_255}"
            )
        self.prior, self.steps, self.weight, self.clip = prior, steps, weight, clip
        self.first_sigma_255, self.last_sigma_255 = first_sigma_255, last_sigma_255
        self.turns = prior.any_size if turns is None else turns

    def calls(self) -> Cost:
        """The most that it may be."""
        return Cost(nfe=self.steps or max(steps for steps, *_ in SETTINGS.values()))

    def levels(self, operator: Operator, sigma: float) -> list[float]:
        """sigma_1 .. sigma_K in [-1, 1] units."""
        steps, first, last = SETTINGS[_kind(operator)]
        steps = self.steps or steps
        low = max(sigma, 2 / 255 * (self.last_sigma_255 or last))
        high = max(low, 2 / 255 * (self.first_sigma_255 or first))
        low, high = (min(max(level, self.prior.sigma_min), self.prior.sigma_max) for level in (low, high))
        return [high * (low / high) ** (k / max(1, steps - 1)) for k in range(steps)]

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del num_samples, random
        operator, y, sigma = measurement.operator, measurement.y, measurement.sigma
        self.check(operator, measurement.noise)
        predict = predictor(self.prior, clip=self.clip)
        if isinstance(operator, IdentityOperator):
            level = min(max(sigma, self.prior.sigma_min), self.prior.sigma_max)
            x = predict(y, level).x0 if sigma else y
            if on_step is not None:
                on_step(0, 1, x)
            notes = (_clamped(sigma, level),) * len(y) if sigma > level else ()
            return Restoration(samples=x[:, None], cost=Cost(nfe=1 if sigma else 0), notes=notes)
        levels, x, residuals = self.levels(operator, sigma), first_guess(operator, y), []
        weights = [self.weight * (max(sigma, LEAST_NOISE) / level) ** 2 for level in levels]
        for k, (level, weight) in enumerate(zip(levels, weights, strict=True)):
            z = proximal(operator, x, y, weight, tolerance=TOLERANCE)
            turn = k % 8 if self.turns else 0
            x = turned_back(predict(turned(z, turn), level).x0, turn)
            residuals.append((y - operator(x)).flatten(1).norm(dim=1).mean())
            if on_step is not None:
                on_step(k, len(levels), x)
        if sigma == 0:
            x = proximal(operator, x, y, weights[-1], tolerance=TOLERANCE)
        trace = {"residual": torch.stack(residuals).tolist(), "sigma_255": [127.5 * level for level in levels]}
        return Restoration(samples=x[:, None], cost=Cost(nfe=len(levels)), trace=trace)


def _clamped(sigma: float, level: float) -> str:
    return (
        f"the noise has sigma_255 {127.5 * sigma:.4g}, the prior knows up to {127.5 * level:.4g} and was asked about"
        " that: some noise stays"
    )


def _kind(operator: Operator) -> str:
    if operator.mask is not None:
        return "holes"
    smaller = tuple(operator.output_shape[1:]) != tuple(operator.input_shape[1:])
    return "super_resolution" if smaller else "blur"
