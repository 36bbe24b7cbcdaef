"""A trained denoiser as the regulariser of an untrained network."""

import math
import threading
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.denoiser import Condition, Denoiser
from restoration.base import Cost, Unsupported
from restoration.deep_image_prior.terms.base import ActiveTerm, Term

_COUNTING = threading.Lock()


class DenoiserTerm(Term):
    """weight * mean(((f - D(f + sigma eps; sigma)) / 2)^2), whose gradient weight * (f - D) / (2 N) does not go through
    D: one forward call an iteration.

    With eps drawn anew at every iteration this is RED-diff's regulariser, Mardani et al. 2023 (2305.04391): there
    w_t (eps_phi(x_t) - eps) with w_t in proportion to sigma_t is (f - D) with a constant weight, 0.25 in their code
    (score distillation, Poole et al. 2022, 2209.14988, is the same gradient). By Tweedie (f - D) / sigma^2 is -grad
    log p_sigma, so that the weight of maximum a posteriori at this level is (N / m) s_y^2 / sigma^2, with the noise
    s_y of the m measured values: weight null takes it, and the weight grows while the level falls;
    docs/theory/dip_and_ddpm.md. With add_noise false it is regularisation by denoising, Romano et al. 2017
    (1611.02862), as in DeepRED, Mataev et al. 2019 (1903.10176): D takes f itself for noisy, and is asked again
    every `refresh` iterations only.

    Args:
        prior: the denoiser; in a config {class_path: checkpoints.denoiser_file.DenoiserFile, init_args: {path: ...}}.
        weight: against the data term, both means in [0, 1] units; null: see above, for a measurement with noise.
        from_255: sigma that the prior is asked at in the first iteration, in grey levels of 255; geometric in between.
        to_255: sigma at the last iteration of the limit, in grey levels of 255; equal to from_255: fixed.
        add_noise: see above.
        refresh: iterations between two calls.
        conditioning: of a prior that takes a conditioning image as a second input: "pseudo_inverse" of y, or "average",
            the averaged output of the iteration before.
        any_size: use the prior on pictures of another size than it was trained on.

    Raises:
        ValueError: options out of range.
    """

    def __init__(
        self,
        *,
        prior: Denoiser,
        weight: float | None = None,
        from_255: float = 127.5,
        to_255: float = 12.75,
        add_noise: bool = True,
        refresh: int = 1,
        conditioning: Literal["pseudo_inverse", "average"] = "pseudo_inverse",
        any_size: bool = False,
    ) -> None:
        if (weight is not None and not weight > 0) or refresh < 1:
            raise ValueError(f"weight must be positive and refresh at least 1, got {weight} and {refresh}")
        if conditioning not in ("pseudo_inverse", "average"):
            raise ValueError(f"conditioning must be pseudo_inverse or average, got '{conditioning}'")
        for name, value in (("from_255", from_255), ("to_255", to_255)):
            if not prior.sigma_min <= value / 127.5 <= prior.sigma_max:
                low, high = 127.5 * prior.sigma_min, 127.5 * prior.sigma_max
                raise ValueError(f"{name} must be a level that the prior knows, {low:.3g} .. {high:.4g}, got {value}")
        self.prior, self.weight, self.first, self.last = prior, weight, from_255 / 127.5, to_255 / 127.5
        self.add_noise, self.refresh, self.conditioning, self.any_size = add_noise, refresh, conditioning, any_size
        self.per_iteration = Cost(nfe=1)

    def level(self, iteration: int, iterations: int) -> float:
        """sigma at an iteration, from 1."""
        done = (iteration - 1) / max(1, iterations - 1)
        return self.first ** (1 - done) * self.last**done

    def weight_at(self, sigma: float, measurement: Measurement) -> Tensor:
        """The weight of each image at a level, [B]."""
        y, mask = measurement.y, measurement.operator.mask
        if self.weight is not None:
            return y.new_full((len(y),), self.weight)
        values = (
            y.new_full((len(y),), y[0].numel())
            if mask is None
            else (mask.flatten(1).sum(1) * y.shape[1]).to(y).expand(len(y))
        )
        own = measurement.noise.rms(y, mask)  # of the law itself: that of shot noise and clipped noise is no constant
        return math.prod(measurement.operator.input_shape) / values * (own / sigma).square().to(y)

    def check(self, operator: Operator, noise: Noise) -> None:
        """Raise Unsupported where the prior is of other pictures, where there is no conditioning image for one that
        needs it, or no noise that says what the weight is.
        """
        (channels, *known), (given, *size) = self.prior.data_shape, operator.input_shape
        if channels != given:
            raise Unsupported(
                f"the prior knows pictures of {channels} channels, and these have {given}: give another prior, or"
                " pictures in its colours"
            )
        if known != size and not (self.any_size or self.prior.any_size):
            raise Unsupported(
                f"the prior was trained on pictures of {known[1]}x{known[0]} pixels (width x height), and these have"
                f" {size[1]}x{size[0]}: give pictures of that size, another prior, or any_size true to use it as it is"
            )
        if self.prior.takes_image and self.conditioning == "pseudo_inverse" and not operator.linear:
            raise Unsupported(
                "the prior takes a conditioning image, and an operator that is not linear has no pseudo-inverse: set"
                " conditioning to average"
            )
        if self.weight is None and not noise.sigma > 0:
            raise Unsupported(
                "the measurement has no noise, which says what weight the denoiser has: give a weight (0.25 in"
                " RED-diff)"
            )

    def begin(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> ActiveTerm:
        self.check(measurement.operator, measurement.noise)
        return _Active(self, measurement, random, iterations)


class _Active(ActiveTerm):
    def __init__(self, term: DenoiserTerm, measurement: Measurement, random: RandomStreams, iterations: int) -> None:
        self.term, self.iterations, self.measurement = term, iterations, measurement
        term.prior.to(measurement.y.device)
        self.generators = [random.generator("dip denoiser", i) for i in measurement.index]
        self.conditioned = term.prior.takes_image
        self.conditioning = (
            measurement.operator.pseudo_inverse(measurement.y)
            if self.conditioned and term.conditioning == "pseudo_inverse"
            else None
        )
        self.target: Tensor | None = None

    def loss(self, output: Tensor, iteration: int) -> Tensor:
        sigma = self.term.level(iteration, self.iterations)
        if self.target is None or (iteration - 1) % self.term.refresh == 0:
            self.target = self._denoised(output.detach(), sigma)
        return self.term.weight_at(sigma, self.measurement) * ((output - self.target) / 2).square().flatten(1).mean(1)

    def after_step(self, output: Tensor, average: Tensor, iteration: int) -> None:
        del output, iteration
        if self.conditioned and self.term.conditioning == "average":
            self.conditioning = average

    @torch.no_grad()
    def _denoised(self, f: Tensor, sigma: float) -> Tensor:
        x = f
        if self.term.add_noise:
            drawn = [torch.from_numpy(g.standard_normal(tuple(f.shape[1:]), dtype="float32")) for g in self.generators]
            x = f + sigma * torch.stack(drawn).to(f)
        condition = (
            Condition(image=(f if self.conditioning is None else self.conditioning).float())
            if self.conditioned
            else None
        )
        with _COUNTING:  # fits run side by side on threads
            self.term.calls_of_rows += len(f)
        level = torch.full((len(f),), sigma, dtype=torch.float32, device=f.device)
        # a prior is in float32, whatever the fit is in
        return self.term.prior.predict(x.float(), level, condition).x0.clamp(-1, 1).to(f)

    def state_dict(self) -> dict[str, Any]:
        return {
            "generators": [_plain(g.bit_generator.state) for g in self.generators],
            "target": self.target,
            "guide": self.conditioning,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.target, self.conditioning = (
            None if state[k] is None else state[k].to(self.measurement.y.device) for k in ("target", "guide")
        )
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.bit_generator.state = saved


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: _plain(v) if isinstance(v, dict) else v.tolist() if hasattr(v, "tolist") else v for k, v in state.items()
    }
