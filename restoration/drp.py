"""DRP: deep restoration priors, a network that undoes one degradation as the regulariser for undoing another."""

import math

import torch
from torch import Tensor

from degradations.base import Operator
from degradations.linear import damped_least_squares
from degradations.measurement import Measurement
from diffusion.cold_restorer import ColdRestorer
from restoration.drp_loop import DRPLoop


class DRP(DRPLoop):
    """z = x - step (x - R(H x)), then (A^T A + weight H^T H + ridge) x = A^T y + weight H^T H z + ridge z: H x is x
    degraded at one severity of the restorer's family and R undoes it.

    Hu et al. 2023 (2310.01391), algorithm 1, whose weight on H^T H is 1 / gamma by its own definition. Where R is the
    mean of x given H x and noise of sigma, the regulariser is -sigma^2 log p of the degraded image. H^T H is singular
    for true downsampling; the ridge holds what neither A nor H sees at z.

    Args:
        prior: the restorer, of a linear family that draws nothing (blur, pixelation).
        severity: t of H, 1 .. T; null: the least that loses something, 1.
        iterations: calls of the network, at least 1.
        step: of the prior, in (0, 1].
        weight: of H^T H against the data, positive.
        ridge: of the part that H loses, relative to weight, positive.

    Raises:
        ValueError: options out of range, or a family that is not linear or draws its parameters.
    """

    prior_kind = "restorer"
    prior: ColdRestorer

    def __init__(
        self,
        *,
        prior: ColdRestorer,
        severity: int | None = None,
        iterations: int = 50,
        step: float = 0.5,
        weight: float = 0.1,
        ridge: float = 0.01,
    ) -> None:
        super().__init__(iterations=iterations, step=step, weight=weight)
        severity = 1 if severity is None else severity
        if not 1 <= severity <= prior.severities:
            raise ValueError(f"severity must lie in 1..{prior.severities}, got {severity}")
        if not prior.family.linear or prior.family.draws:
            raise ValueError(
                f"drp needs a restorer of a linear family that draws nothing, and this one undoes"
                f" {prior.family.description}: take one of blur or pixelation"
            )
        if not 0 < ridge < math.inf:
            raise ValueError(f"ridge must be positive and finite, got {ridge}")
        self.prior, self.severity, self.ridge = prior, severity, ridge

    def prepare(self, measurement: Measurement) -> Operator:
        return self.prior.family.at(self.severity, {}, measurement.operator.input_shape).to(measurement.y.device)

    def restored(self, prepared: Operator, x: Tensor) -> Tensor:
        return self.prior.predict(prepared(x), self.severity)

    def nearest(self, prepared: Operator, operator: Operator, z: Tensor, y: Tensor) -> Tensor:
        """z + d with d the least squares of A d = y - A z and sqrt(weight) H d = 0, both at once."""
        root, split, shapes = self.weight**0.5, y[0].numel(), (y.shape, prepared(z).shape)

        def forward(d: Tensor) -> Tensor:
            return torch.cat([operator(d).flatten(1), root * prepared(d).flatten(1)], 1)

        def adjoint(values: Tensor) -> Tensor:
            first, second = values[:, :split].view(shapes[0]), values[:, split:].view(shapes[1])
            return operator.adjoint(first) + root * prepared.adjoint(second)

        rest = (y - operator(z)).double().flatten(1)
        b = torch.cat([rest, rest.new_zeros(len(z), prepared(z)[0].numel())], 1)
        damping = torch.full((len(z),), self.weight * self.ridge, dtype=torch.float64, device=z.device)
        d = damped_least_squares(forward, adjoint, b, damping, tolerance=1e-6, iterations=1000, name="A and H")
        return z + d.to(z)
