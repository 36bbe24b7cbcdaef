"""Cold diffusion as a restoration method: a restorer that was trained for the degradation undoes it, in one step or
along the severities.
"""

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from common.shapes import image_shape
from degradations.base import Operator, Params
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from degradations.noise import Noise
from degradations.severity.base import SeverityOperator
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.cold import Algorithm, check_severities, cold_sample, severities_from
from diffusion.cold_restorer import ColdRestorer
from diffusion.severity_estimate import candidates, estimate_severity
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported


class ColdSampling(Method):
    """x0 of y = D(x0, t): direct R(y, t), or the paper's algorithm 1 ("naive") or 2 ("improved"), see
    diffusion/cold.py.

    The measurement's operator says t and what was drawn for D, where it is one severity of the restorer's own family
    (degradations/at_severity.py). A given picture, whose operator is the identity, was degraded somewhere else by
    this family: `severity` says t, or null lets it be estimated for every image (diffusion/severity_estimate.py);
    where D draws something, only the direct algorithm can do without knowing it, and `severity` must be given.

    Args:
        prior: the restorer.
        algorithm: "direct": R(y, t) alone, one call; "naive": algorithm 1; "improved" (default): algorithm 2, whose
            errors do not add up.
        steps: network calls along evenly spaced severities, null for each of them.
        severities: the list itself instead, strictly decreasing and ending in 0, of which those below the measurement's
            own are walked.
        severity: t of a given picture, 1 .. T; null: known from the operator, else estimated for every image.
        estimated_noise: for the Gaussian family, see diffusion/cold.py; otherwise its noise is what the first call
            implies. Other noise of the measurement is not modelled: it is taken for a part of the image.

    Raises:
        ValueError: options that do not fit. Bansal et al. 2022 (2208.09392).
    """

    needs_prior = True
    prior_kind = "restorer"
    prior: ColdRestorer
    deterministic = True
    cost_varies = True

    def __init__(
        self,
        *,
        prior: ColdRestorer,
        algorithm: Algorithm = "improved",
        steps: int | None = None,
        severities: list[int] | None = None,
        severity: int | None = None,
        estimated_noise: bool = False,
    ) -> None:
        if steps is not None and severities is not None:
            raise ValueError("give steps or severities, not both")
        if severities is not None:
            check_severities(severities, prior.severities)
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if severity is not None and not 1 <= severity <= prior.severities:
            raise ValueError(
                f"severity must lie in 1..{prior.severities} for {prior.family.description}, got {severity}"
            )
        if estimated_noise and not isinstance(prior.family, GaussianNoiseFamily):
            raise ValueError(
                f"estimated_noise is for Gaussian noise, and the restorer undoes {prior.family.description}: set it to"
                " false"
            )
        self.algorithm: Algorithm = algorithm
        self.prior, self.steps, self.severities = prior, steps, severities
        self.severity, self.estimated_noise = severity, estimated_noise

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        family = self.prior.family
        family.check(operator.input_shape)
        if isinstance(family, GaussianNoiseFamily) and noise.sigma > 0 and not noise.is_white:
            raise Unsupported(
                f"the restorer undoes {family.description}, which is white noise of one level, and here is {noise!r}:"
                " take degradations.noise.GaussianNoise, or another method"
            )
        if isinstance(operator, SeverityOperator):
            if not family.same_as(operator.family):
                raise Unsupported(
                    f"the restorer undoes {family.description}, and here is {operator.description}: give a --prior that"
                    " was trained for it"
                )
            if operator.severity < 1:
                raise Unsupported("at severity 0 there is nothing to restore: choose a severity of at least 1")
            wanted = family.sigma_at(operator.severity) if isinstance(family, GaussianNoiseFamily) else None
            if wanted is not None and abs(noise.sigma - wanted) > 0.01 * wanted:
                raise Unsupported(
                    f"{operator.description} has noise of sigma {wanted:.4g}, and the task has {noise.sigma:.4g}: set"
                    " noise.sigma"
                )
            return
        if not isinstance(operator, IdentityOperator):
            description = operator.description or type(operator).__name__
            raise Unsupported(
                f"the restorer undoes {family.description}, and here is {description}: name the degradation by"
                " degradations.at_severity"
            )
        if family.draws and self.algorithm != "direct" and not isinstance(family, GaussianNoiseFamily):
            raise Unsupported(
                f"what {family.description} drew for a given picture is not known: use algorithm direct, which does"
                " without"
            )
        if family.draws and self.severity is None:
            raise Unsupported(
                f"what {family.description} drew for a given picture is not known, so that its severity cannot be"
                " estimated: set severity"
            )

    def calls(self) -> Cost:
        """For the largest severity, or the one that is given; estimating the severity and the noise of a picture costs
        calls in addition.
        """
        return Cost(nfe=len(self._list(self.severity or self.prior.severities)) - 1)

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del num_samples, random
        self.check(measurement.operator, measurement.noise)
        operator, y = measurement.operator, measurement.y
        if isinstance(operator, SeverityOperator):
            x, nfe = self._along(y, operator.severity, operator.params, on_step)
            return Restoration(samples=x[:, None], cost=Cost(nfe=nfe))
        if self.severity is not None:
            x, nfe = self._along(y, self.severity, self._given_params(y), on_step)
            return Restoration(
                samples=x[:, None], cost=Cost(nfe=nfe), trace={"severity": [float(self.severity)] * len(y)}
            )
        found = estimate_severity(self.prior, y, self._given_params(y))
        x, nfe = torch.empty_like(y), 0
        for severity in found.unique().tolist():  # the images of one severity together
            rows = found == severity
            params = {name: value[rows] for name, value in self._given_params(y).items()}
            x[rows], nfe = self._along(y[rows], severity, params, on_step)
        return Restoration(
            samples=x[:, None],
            cost=Cost(nfe=nfe + len(candidates(self.prior.severities))),
            trace={"severity": found.double().tolist()},
        )

    def _along(self, y: Tensor, severity: int, params: Params, on_step: OnStep | None) -> tuple[Tensor, int]:
        """The restored images and the network calls of each."""
        walked = self._list(severity)
        family = self.prior.family
        calls = len(walked) - 1
        if isinstance(family, GaussianNoiseFamily) and not self.estimated_noise and self.algorithm != "direct":
            now = torch.full((len(y),), severity, device=y.device)
            params = {"noise": family.noise_of(y, self.prior.predict(y, now), now)}
            calls += 1
        x = cold_sample(
            self.prior,
            y,
            walked,
            params,
            algorithm=self.algorithm,
            estimated_noise=self.estimated_noise,
            on_step=on_step,
        )
        return x, calls

    def _list(self, severity: int) -> list[int]:
        """The severities that are walked from `severity` to 0."""
        if self.algorithm == "direct":
            return [severity, 0]
        if self.severities is not None:
            return [severity, *(s for s in self.severities if s < severity)]
        return severities_from(severity, self.steps)

    def _given_params(self, y: Tensor) -> Params:
        """What D needs for a picture that is not known to have been drawn anything for; nothing that is random is among
        it, see `check`.
        """
        family = self.prior.family
        if family.draws:
            return {}
        return family.sample(len(y), image_shape(y.shape[1:]), torch.Generator(device=y.device))
