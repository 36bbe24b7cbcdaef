"""DRP with a denoiser in place of the restoration network: the proximal gradient method with a learned regulariser."""

from torch import Tensor

from common.image_range import sigma_from
from degradations.base import Operator
from degradations.linear import proximal
from degradations.measurement import Measurement
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import predictor
from restoration.drp_loop import DRPLoop


class DenoisingDRP(DRPLoop):
    """z = x - step (x - D(x; sigma)), x = argmin_x |y - A x|^2 + weight |x - z|^2: deep restoration priors with a
    denoiser at one level in place of the restorer, H the identity.

    Hu et al. 2023 (2310.01391) with Romano's and the proximal gradient's denoiser: by Tweedie's formula x - D(x) is
    -sigma^2 times the score of the noised images, so that fixed points minimise |y - A x|^2 / weight - step sigma^2
    log p(x; sigma).

    Args:
        prior: the denoiser.
        sigma_255: its level, in 0..255 units, positive; within the prior's range.
        iterations: calls of the network, at least 1.
        step: of the prior, in (0, 1].
        weight: of z against the data, positive.
        clip: clip every x0 that the prior estimates to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    prior: Denoiser

    def __init__(
        self,
        *,
        prior: Denoiser,
        sigma_255: float = 15.0,
        iterations: int = 50,
        step: float = 0.5,
        weight: float = 0.1,
        clip: bool = True,
    ) -> None:
        super().__init__(iterations=iterations, step=step, weight=weight)
        self.sigma = sigma_from(sigma_255=sigma_255)
        if not prior.sigma_min <= self.sigma <= prior.sigma_max:
            raise ValueError(
                f"sigma_255 must lie in {prior.sigma_min * 127.5:.3g} .. {prior.sigma_max * 127.5:.4g}, the prior's"
                f" range, got {sigma_255}"
            )
        self.prior, self.clip = prior, clip

    def prepare(self, measurement: Measurement) -> None:
        del measurement

    def restored(self, prepared: None, x: Tensor) -> Tensor:
        return predictor(self.prior, clip=self.clip)(x, self.sigma).x0

    def nearest(self, prepared: None, operator: Operator, z: Tensor, y: Tensor) -> Tensor:
        return proximal(operator, z, y, self.weight)
