"""The two types of a degradation: the operator A that acts on a batch, and the recipe that makes one operator per
image.

An :class:`Operator` is bound: its masks and kernels are fixed, one per image of the batch where they differ. A
:class:`Degradation` is what a config names: it draws the parameters of each image (place of a mask, ...) from that
image's own random stream and binds them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from common.shapes import Shape
from common.tensor_shapes import Images, Measurements

Params = dict[str, Tensor]


@dataclass(frozen=True)
class SVD:
    """A = U S V^T with orthogonal changes of basis given as functions.

    Args:
        singular_values: float64 [n] or [B, n], n = C*H*W of the input, zero where A loses the component.
        v: V, V^T, U, U^T. vt maps images [B, C, H, W] to coefficients [B, n], v maps back; ut maps measurements [B,
            *output_shape] to coefficients [B, n] (zero where the singular value is zero), u maps back. Thus A x =
            u(singular_values * vt(x)).
        vt: V, V^T, U, U^T. vt maps images [B, C, H, W] to coefficients [B, n], v maps back; ut maps measurements [B,
            *output_shape] to coefficients [B, n] (zero where the singular value is zero), u maps back. Thus A x =
            u(singular_values * vt(x)).
        u: V, V^T, U, U^T. vt maps images [B, C, H, W] to coefficients [B, n], v maps back; ut maps measurements [B,
            *output_shape] to coefficients [B, n] (zero where the singular value is zero), u maps back. Thus A x =
            u(singular_values * vt(x)).
        ut: V, V^T, U, U^T. vt maps images [B, C, H, W] to coefficients [B, n], v maps back; ut maps measurements [B,
            *output_shape] to coefficients [B, n] (zero where the singular value is zero), u maps back. Thus A x =
            u(singular_values * vt(x)).
    """

    singular_values: Tensor
    v: Callable[[Tensor], Tensor]
    vt: Callable[[Tensor], Tensor]
    u: Callable[[Tensor], Tensor]
    ut: Callable[[Tensor], Tensor]


class Operator(ABC):
    """y = A x for a batch x [B, C, H, W], without noise: noise is never hidden in an operator.

    input_shape and output_shape are (C, H, W) of one image. Deterministic: two calls give equal results. Dtype and
    device follow the input.
    """

    input_shape: Shape
    output_shape: Shape
    linear: bool = True
    #: Whether y is a picture of x, of its own size and colours, which can be shown, filled and enlarged; coefficients
    #: (Walsh-Hadamard, Fourier) are none.
    shows_image: bool = True
    #: A constructive remark for a person, used in refusals: "Gaussian blur (reflecting), std 1.0".
    description: str = ""
    #: pseudo_inverse takes singular values up to here for zero; the `svd` keeps them, so that A = U S V^T is exact.
    #: Whoever divides by them needs it.
    threshold: float = 0.0

    @abstractmethod
    def __call__(self, x: Images) -> Measurements:
        """A x: [B, *input_shape] to [B, *output_shape]."""

    def smooth(self, x: Images) -> Measurements:
        """What the gradient of A is the derivative of: A itself, unless A is made of steps (rounding), whose own
        derivative is 0; then A without them: see degradations/steps.py.
        """
        return self(x)

    def adjoint(self, y: Measurements) -> Images:
        """A^T y with <A x, y> = <x, A^T y>: [B, *output_shape] to [B, *input_shape]; TypeError where A is not
        linear.
        """
        raise TypeError(f"{type(self).__name__} has no adjoint: it is not linear")

    def pseudo_inverse(self, y: Measurements) -> Images:
        """A^+ y, the Moore-Penrose inverse (of A truncated at `threshold`): [B, *output_shape] to [B, *input_shape]."""
        raise TypeError(f"{type(self).__name__} has no pseudo-inverse")

    @property
    def svd(self) -> SVD | None:
        """The singular value decomposition, None where there is no closed form."""
        return None

    @property
    def mask(self) -> Tensor | None:
        """For measurements that have holes: 1 where a value of y is measured, 0 where it is missing, [B or 1, 1, h, w];
        None for all others. Of a mask (see `keeps_pixels`), of coefficients that were not all measured, and of a
        composition that ends with one of these.
        """
        return None

    @property
    def keeps_pixels(self) -> bool:
        """Whether A = diag(mask): what is measured of y is x itself."""
        return False

    @property
    def output_range(self) -> tuple[float, float]:
        """Least and largest value of A x over images x in [-1, 1]; a measurement far outside of it is warned about."""
        return (-1.0, 1.0)

    def norm(self) -> float:
        """An upper bound of the spectral norm ||A||, of the derivative where A is not linear, which step sizes are made
        of; 1 unless a leaf says otherwise.
        """
        return 1.0

    def repeat(self, num_samples: int) -> "Operator":
        """The operator for B * num_samples chains, image-major ([i0, i0, i1, i1]): each image's mask or kernel
        num_samples times.

        Itself where all images share one A.
        """
        return self._with(lambda held: held.repeat_interleave(num_samples, 0))

    def pick(self, rows: Sequence[int]) -> "Operator":
        """The operator for these images of the batch, in this order; itself where all images share one A."""
        return self._with(lambda held: held[list(rows)])

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "Operator":
        """The operator that holds choose(t) for every tensor t [B, ...] that it holds per image; itself where it holds
        none.
        """
        del choose
        return self

    def to(self, device: torch.device | str) -> "Operator":
        """Move the tensors that the operator holds to `device`; returns itself."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self


class Degradation(ABC):
    """A recipe for operators: what a task in a config names.

    ``operator_for(shape, index, random)`` is a function of (seed, image index) alone, thus the same for any batch,
    process and order.
    """

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        """The parameters of image `index` of shape (C, H, W), drawn from its own stream; none unless a leaf draws
        some.
        """
        del random, index, shape
        return {}

    @property
    def draws(self) -> bool:
        """Whether parameters are drawn for each image, which nobody can draw again for a picture that was degraded
        elsewhere.
        """
        return type(self).draw is not Degradation.draw

    @abstractmethod
    def bind(self, params: Params, shape: Shape) -> Operator:
        """The operator for images of shape (C, H, W); `params` are those of :meth:`draw`, stacked over the batch.

        Raises UserError where the shape does not fit (a factor that does not divide the side, a grey image where colour
        is needed).
        """

    def clean_shape(self, measured: Shape) -> Shape:
        """The shape of the image whose measurement has shape `measured` (C, H, W), which a person's own picture is: the
        same unless a leaf says otherwise.
        """
        return measured

    def operator_for(self, shape: Shape, index: Sequence[int], random: RandomStreams) -> Operator:
        """The operator for a batch of images with these indices."""
        drawn = [self.draw(random, int(i), shape) for i in index]
        params = {name: torch.stack([d[name] for d in drawn]) for name in (drawn[0] if drawn else {})}
        return self.bind(params, shape)
