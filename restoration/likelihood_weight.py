"""How far an estimate of x0 is moved by the likelihood of y: one number per image, from one gradient.

With E[x0 | x_t] = x0 and Cov[x0 | x_t] = C, y given x_t is N(A x0, M) with M = sigma^2 + A C A^T where p(x0 | x_t) is
Gaussian, and E[x0 | x_t, y] = x0 + C A^T M^-1 r, r = y - A x0. By Tweedie's formula C = sigma_t^2 dx0/dx_t, so that one
gradient through the network gives C A^T r; M^-1 r would need many. DPS moves along A^T r alone: of all w r the nearest
to M^-1 r has w = r.M^-1 r / |r|^2, the mean of 1 / lambda over the spectrum of M as r sees it. Two moments of that
spectrum come with the same gradient, m1 = r.M r / |r|^2 and m2 = |M r|^2 / |r|^2; where log lambda is normal, the mean
of 1 / lambda is m2 / m1^3. It is exact where M r is a multiple of r: for masks and white data, and at the end of every
chain with noise, where M tends to sigma^2.

C by Tweedie's formula: Boys et al. 2023 (2310.06721); Rozet et al. 2024 (2405.13712), who solve M v = r by conjugate
gradients, whose first step is w = 1 / m1.
"""

from dataclasses import replace

import torch
from torch import Tensor

from degradations.base import Operator
from diffusion.denoiser import Prediction
from diffusion.samplers.base import Predict
from restoration.through_prior import through_prior

#: m2 / m1^2 counts up to here: a network's gradient is no covariance, least of all at its highest levels.
_MOST = 4.0


class LikelihoodGuided:
    """(x, sigma_t) -> the prediction with x0 + w C A^T r; its eps says the same of x.

    Args:
        predict: the prior.
        operator: A, for the rows of x.
        y: the measurement, a row for each of x.
        variance: of the noise, for every value of y.
        clip: clip what comes out to [-1, 1].
    """

    #: |y - A x0| of the prior's estimate in the last call, [B].
    residual: Tensor

    def __init__(self, predict: Predict, *, operator: Operator, y: Tensor, variance: Tensor, clip: bool) -> None:
        self._predict, self._operator, self._y, self._variance, self._clip = predict, operator, y, variance, clip

    def __call__(self, x: Tensor, sigma: float) -> Prediction:
        operator = self._operator

        def back(x0: Tensor) -> Tensor:
            """A^T r as a gradient, which operators have that have no adjoint."""
            with torch.enable_grad():
                x0 = x0.requires_grad_(True)
                (gradient,) = torch.autograd.grad(0.5 * (self._y - operator(x0)).square().sum(), x0)
            return -gradient

        prediction, moved = through_prior(self._predict, x, sigma, back)
        clean = operator(prediction.x0)
        difference = self._y - clean
        # Of an operator that is not linear: what the move would change, in place of its derivative.
        if operator.linear:
            seen = operator(moved)
        else:
            seen = operator.smooth(prediction.x0 + moved) - operator.smooth(prediction.x0)
        r, mr = difference.flatten(1), (self._variance * difference + seen).flatten(1)
        self.residual = r.norm(dim=1)
        x0 = prediction.x0 + weight(r, mr).view(-1, 1, 1, 1) * moved
        if self._clip:
            x0 = x0.clamp(-1, 1)
        return replace(prediction, x0=x0, eps=(x - x0) / sigma)


def weight(r: Tensor, mr: Tensor) -> Tensor:
    """m2 / m1^3 of r and M r, [B, m] each: [B]; 0 where r.M r is not positive."""
    size = r.square().sum(1).clamp(min=torch.finfo(r.dtype).tiny)
    first, second = (r * mr).sum(1) / size, mr.square().sum(1) / size
    positive = first > 0
    first = torch.where(positive, first, 1.0)
    return torch.where(positive, (second / first.square()).clamp(max=_MOST) / first, 0.0)
