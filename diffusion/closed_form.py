"""Denoisers that are exact formulas: Gaussian data and mixtures of Gaussians, for tests of samplers and methods and for
a notebook.

    denoiser = GaussianDenoiser(mean=0.2, covariance=[0.5, 0.1], data_shape=(1, 1, 2))
    x = DDIM().sample(denoiser, start, spaced_sigmas(denoiser, 50), clip=False)

Formulas are evaluated in float64 whatever the type of x, results have the type of x, and everything can be
differentiated with respect to x.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from common.shapes import image_shape
from common.tensor_shapes import AnyLevels, AnyTimes, Images, Sigma
from diffusion.denoiser import Condition, Denoiser, Prediction, expand
from diffusion.schedules import Linear, Schedule

Numbers = float | Sequence[float] | Sequence[Sequence[float]] | Tensor


class ClosedForm(Denoiser):
    """What exact denoisers share: x = x0 + sigma * noise as vectors of D = C H W numbers; levels are those of
    `schedule`, and none is clamped.
    """

    takes_maps = True

    def __init__(self, *, data_shape: Sequence[int], schedule: Schedule | None) -> None:
        super().__init__()
        schedule = schedule or Linear()
        if len(data_shape) != 3 or min(data_shape) < 1:
            raise ValueError(f"data_shape must be three positive numbers (C, H, W), got {tuple(data_shape)}")
        self.data_shape = image_shape(data_shape)
        self.schedule = schedule
        self.sigma_min, self.sigma_max = float(schedule.sigmas[0]), float(schedule.sigmas[-1])
        self.num_timesteps = len(schedule)

    def level_at(self, time: AnyTimes) -> AnyLevels:
        return self.schedule.sigma_of(time)

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        x0, eps, _ = self._posterior(*self._flat(x, sigma))
        return Prediction(x0=x0.view_as(x).to(x.dtype), eps=eps.view_as(x).to(x.dtype))

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(x) in float64, [B], of x = x0 + sigma * noise; eps is -sigma times its gradient."""
        return self._posterior(*self._flat(x, sigma))[2]

    def _flat(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """x as float64 [B, D] and sigma as float64 [B, 1], or [B, D] where it is a map."""
        if tuple(x.shape[1:]) != self.data_shape:
            raise ValueError(f"x must have shape [B, {', '.join(map(str, self.data_shape))}], got {list(x.shape)}")
        level = expand(sigma, x).double()
        if not bool(((level > 0) & (level < math.inf)).all()):
            raise ValueError(
                f"sigma must be positive and finite, got {float(level.min()):.4g} .. {float(level.max()):.4g}"
            )
        return x.double().flatten(1), (level if sigma.ndim == 1 else level.expand_as(x)).flatten(1)

    @abstractmethod
    def _posterior(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E[x0 | x] [B, D], eps [B, D] and log p(x) [B]."""


class Gaussian(nn.Module):
    """N(mean, S) in D dimensions, seen through noise of covariance N = sigma^2 (a number or a diagonal); all float64.

    Args:
        mean: a number, [D], or an image of D numbers.
        covariance: a number (times the identity), [D] (a diagonal), or [D, D], symmetric and positive semi-definite.

    Raises:
        ValueError: other shapes or a matrix that is no covariance.
    """

    mean: Tensor
    variances: Tensor
    basis: Tensor

    def __init__(self, mean: Numbers, covariance: Numbers, dimension: int) -> None:
        super().__init__()
        mean, covariance = (torch.as_tensor(v, dtype=torch.float64).detach().clone() for v in (mean, covariance))
        if mean.numel() not in (1, dimension):
            raise ValueError(f"mean must have 1 or {dimension} numbers, got shape {list(mean.shape)}")
        if list(covariance.shape) not in ([], [1], [dimension], [dimension, dimension]):
            raise ValueError(
                f"covariance must be a number or have shape [{dimension}] or [{dimension}, {dimension}], got"
                f" {list(covariance.shape)}"
            )
        self.register_buffer("mean", mean.flatten().expand(dimension).clone())
        self.full = covariance.ndim == 2
        if self.full:
            if not torch.allclose(covariance, covariance.T, rtol=1e-10, atol=0):
                raise ValueError("covariance must be symmetric")
            variances, basis = torch.linalg.eigh(covariance)
        else:
            variances, basis = covariance.expand(dimension).clone(), torch.zeros(0, dtype=torch.float64)
        # Rounding may leave the zero eigenvalues of a degenerate covariance a little below zero.
        if float(variances.min()) < -1e-12 * float(variances.abs().max()):
            raise ValueError(
                f"covariance must be positive semi-definite, its least eigenvalue is {float(variances.min()):.4g}"
            )
        self.register_buffer("variances", variances.clamp(min=0))
        self.register_buffer("basis", basis)

    def covariance(self) -> Tensor:
        """S [D, D]."""
        return (self.basis * self.variances) @ self.basis.T if self.full else torch.diag(self.variances)

    def to_basis(self, x: Tensor) -> Tensor:
        return x @ self.basis if self.full else x

    def from_basis(self, x: Tensor) -> Tensor:
        return x @ self.basis.T if self.full else x

    def posterior(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With w = (S + N)^-1 (x - m): x0 = m + S w, eps = sigma w, log p = -(1/2) ((x - m).w + log det(2 pi (S + N))).
        x [B, D], level [B, 1] or [B, D].
        """
        centred = x - self.mean
        if self.full and level.shape[1] > 1:  # a map of levels: S and N have no common basis
            # The same map for all, as chains of one measurement have it, is solved once.
            shared = level[:1] if bool((level == level[:1]).all()) else level
            factor = torch.linalg.cholesky(self.covariance() + torch.diag_embed(shared.square()))
            right = centred.T[None] if len(shared) == 1 else centred[..., None]
            solved = torch.cholesky_solve(right, factor)
            w = solved[0].T if len(shared) == 1 else solved[..., 0]
            x0, eps = self.mean + w @ self.covariance(), level * w
            log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        else:
            total = self.variances + level.square()
            turned = self.to_basis(centred) / total
            w = self.from_basis(turned)
            x0, eps = self.mean + self.from_basis(self.variances * turned), level * w
            log_det = total.log().sum(1)
        return x0, eps, -0.5 * ((centred * w).sum(1) + log_det + x.shape[1] * math.log(2 * math.pi))


class GaussianDenoiser(ClosedForm):
    """x0 = m + S (S + sigma^2)^-1 (x - m), eps = sigma (S + sigma^2)^-1 (x - m): exact for data ~ N(m, S).

    mean m: a number or D = C H W numbers. covariance S: a number (times the identity), D numbers (a diagonal) or D x
    D.

    Args:
        data_shape: (C, H, W).
        schedule: names the levels of the training times; Linear() where it is null. sigma may be a map.

    Raises:
        ValueError: shapes that do not fit.
    """

    def __init__(
        self, *, mean: Numbers, covariance: Numbers, data_shape: Sequence[int], schedule: Schedule | None = None
    ) -> None:
        super().__init__(data_shape=data_shape, schedule=schedule)
        self.data = Gaussian(mean, covariance, math.prod(data_shape))

    def flow(self, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """m + ((S + sigma'^2) / (S + sigma^2))^(1/2) (x - m): where the probability flow takes x from sigma to sigma'
        (either direction, sigma' may be 0).
        """
        flat, _ = self._flat(x, torch.full(x.shape[:1], sigma, dtype=torch.float64, device=x.device))
        scale = ((self.data.variances + sigma_next**2) / (self.data.variances + sigma**2)).sqrt()
        moved = self.data.mean + self.data.from_basis(scale * self.data.to_basis(flat - self.data.mean))
        return moved.view_as(x).to(x.dtype)

    def _posterior(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.data.posterior(x, level)


class MixtureDenoiser(ClosedForm):
    """x0 = sum_k r_k(x) x0_k(x), r_k = w_k N(x; m_k, S_k + sigma^2) / sum_j ...: exact for data from a mixture of K
    Gaussians.

    Args:
        weights: K positive numbers that sum to 1.
        means: K of what :class:`GaussianDenoiser` takes.
        covariances: K of what :class:`GaussianDenoiser` takes.
        data_shape: as there. sigma may be a map.
        schedule: as there. sigma may be a map.

    Raises:
        ValueError: where the numbers of components differ or weights are no probabilities.
    """

    def __init__(
        self,
        *,
        weights: Sequence[float],
        means: Sequence[Numbers],
        covariances: Sequence[Numbers],
        data_shape: Sequence[int],
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(data_shape=data_shape, schedule=schedule)
        probabilities = torch.as_tensor(weights, dtype=torch.float64)
        if not len(probabilities) == len(means) == len(covariances) > 0:
            raise ValueError(
                f"weights, means and covariances must be equally many, got {len(probabilities)}, {len(means)} and"
                f" {len(covariances)}"
            )
        if float(probabilities.min()) <= 0 or abs(float(probabilities.sum()) - 1) > 1e-6:
            raise ValueError(f"weights must be positive and sum to 1, got {probabilities.tolist()}")
        self.log_weights: Tensor
        self.register_buffer("log_weights", probabilities.log())
        self.components = nn.ModuleList(
            Gaussian(m, c, math.prod(data_shape)) for m, c in zip(means, covariances, strict=True)
        )

    def responsibilities(self, x: Tensor, sigma: Tensor) -> Tensor:
        """r_k(x) in float64, [B, K]: the probability that x = x0 + sigma * noise came from component k."""
        return self._components(*self._flat(x, sigma))[2].softmax(1)

    def _posterior(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x0, eps, joint = self._components(x, level)
        share = joint.softmax(1)[..., None]
        return (share * x0).sum(1), (share * eps).sum(1), joint.logsumexp(1)

    def _components(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x0_k and eps_k [B, K, D], log(w_k p_k(x)) [B, K]."""
        x0, eps, log_density = (
            torch.stack(parts, 1)
            for parts in zip(*(cast(Gaussian, c).posterior(x, level) for c in self.components), strict=True)
        )
        return x0, eps, self.log_weights + log_density
