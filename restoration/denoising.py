"""What removes white noise and undoes nothing else: A = a I, whatever a network or a library then makes of y / a."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from degradations.noise import Noise
from degradations.scaled import Scaled
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported


class Denoising(Method):
    """A method for y = a x + sigma z alone, refused for any other operator and where there is no noise."""

    deterministic = True
    needs = frozenset({"white_noise", "likelihood"})
    reasons = {"likelihood": "noise above 0, to remove"}

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        if _scale(operator) is None:
            name = type(self).__module__.rpartition(".")[2]
            raise Unsupported(
                f"{name} removes noise and undoes nothing, and {operator.description or type(operator).__name__} is in"
                " the way: take another method"
            )

    def scale(self, operator: Operator) -> float:
        """a of A = a I, after `check`."""
        scale = _scale(operator)
        assert scale is not None
        return scale


class LibraryDenoiser(Denoising):
    """A denoiser of scikit-image, picture by picture: no network, no trace."""

    def calls(self) -> Cost:
        return Cost()

    @abstractmethod
    def denoise(self, picture: np.ndarray, sigma: float) -> np.ndarray:
        """A picture [H, W, C] in [0, 1] units, not clipped, with white noise of sigma in those units; one without."""

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del num_samples, random
        self.check(measurement.operator, measurement.noise)
        scale = self.scale(measurement.operator)
        y = measurement.y / scale
        x = torch.stack([self._one(one, measurement.sigma / scale) for one in y])
        if on_step is not None:
            on_step(0, 1, x)
        return Restoration(samples=x.unsqueeze(1))

    def _one(self, y: Tensor, sigma: float) -> Tensor:
        picture = (y.detach().cpu().double().permute(1, 2, 0).contiguous().numpy() + 1) / 2
        found = self.denoise(picture, sigma / 2).reshape(picture.shape)  # the library drops a single channel
        return torch.from_numpy(2 * found - 1).permute(2, 0, 1).to(y)


def _scale(operator: Operator) -> float | None:
    """a of A = a I, None where A is another operator."""
    if isinstance(operator, Scaled):
        return operator.scale
    return 1.0 if isinstance(operator, IdentityOperator) else None
