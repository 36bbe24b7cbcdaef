"""A measurement in the basis of its operator's SVD, and the step that DDRM and DDNM take there."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from degradations.base import SVD
from restoration.posterior import Problem


@dataclass(frozen=True)
class Spectrum:
    """y in the basis of A = U S V^T, one row per chain.

    Args:
        svd: of the chains' operator.
        level: sigma_y / s, the noise of each component in units of the image, [B N or 1, n]; infinite where A loses it.
        y: U^T y / s, 0 where A loses the component, [B N, n].
    """

    svd: SVD
    level: Tensor
    y: Tensor

    @classmethod
    def of(cls, problem: Problem) -> "Spectrum":
        operator = problem.operator
        svd, measured = operator.svd, problem.y
        assert svd is not None
        values = svd.singular_values.to(measured)
        values = values if values.ndim == 2 else values[None]
        kept = (values > operator.threshold) & (values > 0)
        divisor = torch.where(kept, values, 1.0)
        level = torch.where(kept, problem.sigma / divisor, math.inf)
        return cls(svd, level, torch.where(kept, svd.ut(measured).to(measured) / divisor, 0.0))

    def move(self, x0: Tensor, eps: Tensor, noise: Tensor, sigma: float, *, eta: float, eta_measured: float) -> Tensor:
        """x at the level sigma from estimates x0 and eps and noise, all [B N, C, H, W]; see restoration/ddrm.py."""
        svd, shape = self.svd, x0.shape
        clean, old, fresh = (svd.vt(values).to(x0) for values in (x0, eps, noise.to(x0)))
        kept_noise = math.sqrt(1 - eta**2) * sigma
        lost = clean + kept_noise * old + eta * sigma * fresh
        # Measured more noisily than the chain is at this level: pulled as far as the level allows.
        finite = torch.where(self.level.isfinite() & (self.level > 0), self.level, 1.0)
        noisy = clean + kept_noise * (self.y - clean) / finite + eta * sigma * fresh
        rest = (sigma**2 - (eta_measured * self.level) ** 2).clamp(min=0).sqrt()
        clear = (1 - eta_measured) * clean + eta_measured * self.y + rest.nan_to_num() * fresh
        found = torch.where(self.level <= sigma, clear, torch.where(self.level.isfinite(), noisy, lost))
        return svd.v(found).view(shape).to(x0)
