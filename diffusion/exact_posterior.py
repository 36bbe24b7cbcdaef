"""The posterior of linear measurements where the prior is Gaussian or a mixture of Gaussians: a formula."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from diffusion.closed_form import ClosedForm, Gaussian, GaussianDenoiser, MixtureDenoiser


@dataclass(frozen=True)
class ExactPosterior:
    """p(x | y) = sum_k weights_k N(means_k, covariances_k), for B measurements of D numbers; all float64.

    Args:
        weights: [B, K], which sum to 1.
        means: [B, K, D].
        covariances: [K, D, D], the same for every y.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @property
    def mean(self) -> Tensor:
        """[B, D]."""
        return (self.weights[..., None] * self.means).sum(1)

    @property
    def covariance(self) -> Tensor:
        """[B, D, D]: that within the components and that of their means."""
        within = torch.einsum("bk,kij->bij", self.weights, self.covariances)
        apart = self.means - self.mean[:, None]
        return within + torch.einsum("bk,bki,bkj->bij", self.weights, apart, apart)

    def turned(self, basis: Tensor) -> "ExactPosterior":
        """That of basis^T x, basis [D, n]."""
        return ExactPosterior(self.weights, self.means @ basis, basis.T @ self.covariances @ basis)

    def below(self, values: Tensor) -> Tensor:
        """P(x_d <= value), for values [Q, B, D]."""
        deviation = self.covariances.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
        z = (values[:, :, None] - self.means) / deviation.clamp(min=1e-300)
        return (self.weights[..., None] * torch.special.ndtr(z)).sum(2)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """[B, count, D]."""
        values, vectors = torch.linalg.eigh(self.covariances)
        # A covariance may be singular: no Cholesky. The symmetric root, because signs and order of eigenvectors are the
        # processor's, and draws must not be.
        factors = vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.mT
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        z = torch.randn(*which.shape, self.means.shape[2], generator=generator, dtype=torch.float64)
        noise = torch.einsum("bnij,bnj->bni", factors[which], z)
        return torch.gather(self.means, 1, which[..., None].expand_as(noise)) + noise


def exact_posterior(prior: ClosedForm, a: Tensor, y: Tensor, sigma: float) -> ExactPosterior:
    """mean_k = m_k + G_k (y - A m_k), covariance_k = S_k - G_k A S_k, G_k = S_k A^T V_k^-1, V_k = A S_k A^T + sigma^2;
    weights_k in proportion to w_k N(y; A m_k, V_k).

    Args:
        prior: exact for data of a Gaussian or of a mixture.
        a: A as a matrix [M, D], see :func:`degradations.linear.as_matrix`; rows of zeros measure nothing.
        y: [B, M].
        sigma: of the white noise, at least 0; without noise the other rows must be independent.
    """
    measured = a.abs().sum(1) > 0
    a, y = a[measured].double(), y[:, measured].double()
    parts, log_weights = _components(prior)
    means, covariances, densities = [], [], []
    for part in parts:
        s, centred = part.covariance(), y - part.mean @ a.T
        v = a @ s @ a.T + sigma**2 * torch.eye(len(a), dtype=torch.float64)
        gain = torch.linalg.solve(v, a @ s).T
        means.append(part.mean + centred @ gain.T)
        covariances.append(s - gain @ a @ s)
        away = (centred * torch.linalg.solve(v, centred.T).T).sum(1)
        densities.append(-0.5 * (away + torch.linalg.slogdet(2 * math.pi * v).logabsdet))
    weights = (log_weights + torch.stack(densities, 1)).softmax(1)
    return ExactPosterior(weights, torch.stack(means, 1), torch.stack(covariances))


def _components(prior: ClosedForm) -> tuple[list[Gaussian], Tensor]:
    """The Gaussians of a prior and the logarithms of their weights [K]."""
    if isinstance(prior, MixtureDenoiser):
        return [cast(Gaussian, c) for c in prior.components], prior.log_weights
    if isinstance(prior, GaussianDenoiser):
        return [prior.data], torch.zeros(1, dtype=torch.float64)
    raise ValueError(f"prior must be a GaussianDenoiser or a MixtureDenoiser, got {type(prior).__name__}")
