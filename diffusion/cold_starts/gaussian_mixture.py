"""A Gaussian mixture over a few numbers per image: what starts learn from training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError

TOLERANCE = 1e-3  # of the mean log-likelihood between two steps of the fit
# to every variance, so that data in a subspace (grey images with three channels) still has a density
VARIANCE_ADDED = 1e-6


@dataclass(frozen=True)
class GaussianMixture:
    """p(v) = sum_k w_k N(v; m_k, S_k): weights [K], means [K, d], covariances [K, d, d], float64."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @classmethod
    def fit(cls, vectors: Tensor, *, components: int, seed: int) -> "GaussianMixture":
        """Maximum likelihood by expectation maximisation for vectors [N, d], to 1e-3 in the mean log-likelihood; `seed`
        of its k-means start.

        One component is the mean and the covariance (divided by N). 1e-6 is added to each variance. UserError for fewer
        than components * (d + 1) vectors, which no covariance of full rank can be made of.
        """
        # slow to import, and drawing does not need it
        from sklearn.mixture import GaussianMixture as ExpectationMaximisation

        count, dimension = vectors.shape
        least = components * (dimension + 1)
        if count < least:
            raise UserError(
                f"a start with components={components} over {dimension} numbers per image needs at least {least}"
                f" training images, got {count}"
            )
        found = ExpectationMaximisation(
            n_components=components,
            covariance_type="full",
            tol=TOLERANCE,
            reg_covar=VARIANCE_ADDED,
            random_state=seed,
            max_iter=1000,
        ).fit(vectors.double().cpu().numpy())
        if not found.converged_:
            raise UserError(
                f"the fit of components={components} Gaussians to {count} training images did not settle in 1000 steps:"
                " take fewer components"
            )
        return cls(
            *(
                torch.from_numpy(np.asarray(a, dtype=np.float64))
                for a in (found.weights_, found.means_, found.covariances_)
            )
        )

    @property
    def dimension(self) -> int:
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        """sum_k w_k m_k, [d]."""
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        """sum_k w_k (S_k + (m_k - m)(m_k - m)^T), [d, d]."""
        apart = self.means - self.mean
        return torch.einsum("k,kij->ij", self.weights, self.covariances) + torch.einsum(
            "k,ki,kj->ij", self.weights, apart, apart
        )

    def draw(self, generator: np.random.Generator) -> Tensor:
        """One vector float64 [d]: a component by its weight, then m + L z with S = L L^T."""
        chosen = int(
            np.searchsorted(
                self.weights.cumsum(0).numpy(), generator.random() * float(self.weights.sum()), side="right"
            )
        )
        chosen = min(chosen, len(self.weights) - 1)
        z = torch.from_numpy(generator.standard_normal(self.dimension))
        return self.means[chosen] + torch.linalg.cholesky(self.covariances[chosen]) @ z

    def state(self) -> dict[str, Any]:
        """As plain lists."""
        return {
            "weights": self.weights.tolist(),
            "means": self.means.tolist(),
            "covariances": self.covariances.tolist(),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any], *, owner: str) -> "GaussianMixture":
        """What :meth:`state` gave; UserError, naming the `owner`, for anything else."""
        names = ("weights", "means", "covariances")
        if set(state) != set(names):
            found = ", ".join(sorted(state)) or "nothing"
            raise UserError(
                f"{owner} needs {', '.join(names)} in the checkpoint, found {found}: it was trained with another start"
            )
        try:
            weights, means, covariances = (torch.tensor(state[n], dtype=torch.float64) for n in names)
            K, d = means.shape
            fits = (
                weights.shape == (K,)
                and covariances.shape == (K, d, d)
                and bool(torch.linalg.cholesky_ex(covariances).info.eq(0).all())
            )
            fits = fits and bool((weights >= 0).all()) and abs(float(weights.sum()) - 1) < 1e-6
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise UserError(
                f"the checkpoint's mixture for {owner} is damaged: weights, means and covariances do not describe a"
                " distribution; train again"
            )
        return cls(weights, means, covariances)
