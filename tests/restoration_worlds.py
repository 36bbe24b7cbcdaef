"""The closed-form world of reference 2.14, tiny random priors, and a source of noise that is quick for very many
chains.
"""

import torch
from torch import Tensor, nn

from common.one_stream import OneStream as OneStream  # tests take it from here
from degradations.base import Operator, Shape
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from diffusion.closed_form import GaussianDenoiser

COVARIANCE = [[1.0, 0.8], [0.8, 1.0]]


class FirstPixel(Operator):
    """A = [1, 0] on images of two pixels: y is the first of them alone (not a mask, which is image-shaped)."""

    input_shape: Shape = (1, 1, 2)
    output_shape: Shape = (1, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        return x[..., :1]

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.cat([y, torch.zeros_like(y)], -1)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.adjoint(y)


class Cubed(Operator):
    """A(x) = x^3: not linear, forward only."""

    linear = False

    def __init__(self, shape: Shape) -> None:
        self.input_shape = self.output_shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        return x**3

    def norm(self) -> float:
        """Of the derivative, on images in [-1, 1]."""
        return 3.0


class Flipped(Operator):
    """A x = x upside down: linear, with A^T = A^+ = A, of which no singular value decomposition is given."""

    def __init__(self, shape: Shape) -> None:
        self.input_shape = self.output_shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        return x.flip(-2)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.flip(-2)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return y.flip(-2)


class CountingNetwork(nn.Module):
    """Counts what a network computes: the rows of every call, of every gradient that came back to its input, and of
    those calls that were made outside of inference mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.takes_maps = getattr(network, "takes_maps", False)
        self.forwards: list[int] = []
        self.backwards: list[int] = []
        self.recording: list[int] = []

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        self.forwards.append(len(x))
        if not torch.is_inference_mode_enabled():
            self.recording.append(len(x))
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(lambda gradient: self.backwards.append(len(gradient)))
        return self.network(x, time, label)

    def clear(self) -> None:
        self.forwards.clear()
        self.backwards.clear()
        self.recording.clear()


def correlated_pair() -> GaussianDenoiser:
    """Data ~ N(0, S) on two pixels with the linear schedule, T = 1000."""
    return GaussianDenoiser(mean=0.0, covariance=COVARIANCE, data_shape=(1, 1, 2))


def observed_first() -> Measurement:
    """y = 1.5 with noise of 0.1."""
    return Measurement(
        y=torch.full((1, 1, 1, 1), 1.5, dtype=torch.float64),
        operator=FirstPixel(),
        noise=GaussianNoise(sigma=0.1),
        index=(0,),
    )
