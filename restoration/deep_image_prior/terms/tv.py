"""Total variation beside the data term of a deep image prior."""

from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from restoration.deep_image_prior.terms.base import ActiveTerm, Term

EPSILON = 1e-10  # (1e-5)^2 in [0, 1] units: keeps the gradient of a root finite where neighbours are equal


class TVTerm(Term, ActiveTerm):
    """weight * sum over channels and pixels of (d_h^2 + d_v^2)^beta, forward differences of u = (f + 1) / 2 in [0, 1],
    without the last row and column.

    The sum of each image, as published, beside a data term that is a mean: the same weight presses harder on a larger
    image. Where a difference is below 1e-5 the power is smoothed, and a constant image has 0. Reference implementation
    of Ulyanov et al. 2018 (1711.10925): weight 1e-7, beta 0.5 (the isotropic total variation; Mahendran and Vedaldi
    2015, 1412.0035, for other beta). Raises ValueError where weight is negative or beta not positive.

    Args:
        weight: of the sum beside the data term, at least 0 (default 1e-7, the released inpainting and restoration
            notebooks).
        beta: power of the squared gradient, positive; 0.5 (default) is the isotropic total variation.
    """

    def __init__(self, *, weight: float = 1e-7, beta: float = 0.5) -> None:
        if not 0 <= weight < float("inf") or not 0 < beta < float("inf"):
            raise ValueError(f"weight must be at least 0 and beta positive, got {weight} and {beta}")
        self.weight, self.beta = weight, beta

    def begin(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> ActiveTerm:
        del measurement, random, iterations
        return self  # it remembers nothing

    def loss(self, output: Tensor, iteration: int) -> Tensor:
        del iteration
        u = (output + 1) / 2
        down = (u[..., 1:, :-1] - u[..., :-1, :-1]).square()
        right = (u[..., :-1, 1:] - u[..., :-1, :-1]).square()
        return self.weight * ((down + right + EPSILON).pow(self.beta) - EPSILON**self.beta).flatten(1).sum(1)
