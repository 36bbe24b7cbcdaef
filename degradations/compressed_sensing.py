"""Compressed sensing: fewer numbers than pixels, each a sum of all pixels with signs, as a single-pixel camera
measures.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Degradation, Operator, Params, Shape
from degradations.diagonal import check_count, diagonal_svd
from degradations.hadamard import factor, hadamard_transform


class HadamardSensing(Operator):
    """A = diag(M) H P for every channel: H the orthonormal Walsh-Hadamard transform of rows and columns, P a
    permutation of the pixels, M the coefficients that are measured; A^T = A^+ = P^T H^T diag(M).

    y has the shape of the image and zeros where nothing was measured, which `mask` says. The singular values are M,
    V = P^T H^T, U = I.

    Args:
        measured: M, [B or 1, 1, H, W], 1 where a coefficient is measured and 0 elsewhere, shared by the channels; row i
            and column j belong to the i-th row of H_height and the j-th of H_width, (0, 0) to the mean.
        channels: C of the images.
        order: P, int64 [B or 1, H W], the pixel that comes to each place; None for the pixels as they are.

    Raises:
        ValueError: other shapes, and values of M other than 0 and 1. UserError: sides that no Hadamard matrix has.
    """

    shows_image = False

    def __init__(
        self, measured: Tensor, *, channels: int, order: Tensor | None = None, description: str = "Walsh-Hadamard"
    ) -> None:
        if measured.ndim != 4 or measured.shape[1] != 1 or not ((measured == 0) | (measured == 1)).all():
            raise ValueError(f"measured must be [B, 1, H, W] of 0 and 1, got {list(measured.shape)}")
        for side in measured.shape[2:]:
            factor(side)
        pixels = measured.shape[2] * measured.shape[3]
        if order is not None and (order.ndim != 2 or order.shape[1] != pixels):
            raise ValueError(f"order must be [B, {pixels}], got {list(order.shape)}")
        self._measured, self._order = measured.float(), order
        self._back = None if order is None else order.argsort(1)
        self.input_shape = self.output_shape = image_shape((channels, *measured.shape[2:]))
        self.description = description

    def __call__(self, x: Images) -> Measurements:
        check_count(self._measured, x)
        return self._coefficients(x) * self._measured.to(x)

    def adjoint(self, y: Measurements) -> Images:
        check_count(self._measured, y)
        return self._image(y * self._measured.to(y))

    def pseudo_inverse(self, y: Measurements) -> Images:
        return self.adjoint(y)

    @property
    def mask(self) -> Tensor:
        return self._measured

    @property
    def svd(self) -> SVD:
        """V = P^T H^T, U = I, the singular values are M."""
        of_mask = diagonal_svd(self._measured, self.input_shape)

        def v(c: Tensor) -> Tensor:
            return self._image(c.unflatten(1, self.input_shape))

        def vt(x: Tensor) -> Tensor:
            return self._coefficients(x).flatten(1)

        return SVD(of_mask.singular_values, v=v, vt=vt, u=of_mask.u, ut=of_mask.ut)

    @property
    def output_range(self) -> tuple[float, float]:
        """-+ sqrt(H W), reached by an image of the signs of a row of A."""
        most = (self.input_shape[1] * self.input_shape[2]) ** 0.5
        return (-most, most)

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "HadamardSensing":
        if len(self._measured) == 1:
            return self
        order = None if self._order is None else choose(self._order)
        options = {"channels": self.input_shape[0], "order": order, "description": self.description}
        return HadamardSensing(choose(self._measured), **options)

    def _coefficients(self, x: Tensor) -> Tensor:
        """H P x."""
        x = _placed(x, self._order)
        return hadamard_transform(hadamard_transform(x).mT).mT

    def _image(self, c: Tensor) -> Tensor:
        """P^T H^T c."""
        x = hadamard_transform(hadamard_transform(c, transposed=True).mT, transposed=True).mT
        return _placed(x, self._back)


def _placed(x: Tensor, order: Tensor | None) -> Tensor:
    """The pixels of each image in another order, the same in all channels."""
    if order is None:
        return x
    chosen = order.to(x.device)[:, None].expand(len(x), x.shape[1], -1)
    return x.flatten(2).gather(2, chosen).view(x.shape)


class CompressedSensing(Degradation):
    """y = round(ratio H W) coefficients of the Walsh-Hadamard transform of every image, drawn for each without
    replacement, the mean always among them.

    Args:
        ratio: of measured coefficients to pixels, in (0, 1]; 0.5 and 0.25 in DDRM. Channels are measured alike.
        scrambled: whether the pixels are put in a random order first, so that every coefficient says as much of coarse
            as of fine detail (Do et al. 2012, structurally random matrices); without it, as in DDRM, which coefficients
            were drawn decides what is lost.

    Raises:
        UserError: a ratio out of range, and, when bound, sides for which no Hadamard matrix is here: powers of 2 have
            one, and 12, 20, 28 and their doubles.

    Source: DDRM (Kawar et al. 2022, 2201.11793), "compressed sensing", where the mean is drawn like the others.
    """

    def __init__(self, *, ratio: float = 0.25, scrambled: bool = False) -> None:
        if not 0 < ratio <= 1:
            raise UserError(f"ratio must be above 0 and at most 1, got {ratio}")
        self.ratio, self.scrambled = ratio, scrambled

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        pixels = shape[1] * shape[2]
        generator = random.generator("compressed sensing", index)
        chosen = 1 + torch.from_numpy(generator.permutation(pixels - 1))
        measured = torch.zeros(pixels)
        measured[0] = 1
        measured[chosen[: max(1, round(self.ratio * pixels)) - 1]] = 1
        drawn = {"measured": measured.view(1, *shape[1:])}
        if self.scrambled:
            drawn["order"] = torch.from_numpy(generator.permutation(pixels))
        return drawn

    def bind(self, params: Params, shape: Shape) -> HadamardSensing:
        kind = "scrambled Walsh-Hadamard" if self.scrambled else "Walsh-Hadamard"
        description = f"compressed sensing, {self.ratio:.4g} of the {kind} coefficients"
        order = params.get("order")
        return HadamardSensing(params["measured"], channels=shape[0], order=order, description=description)
