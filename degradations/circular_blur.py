"""Blur as a circular convolution: exact adjoint, pseudo-inverse and singular values by FFT."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.errors import UserError
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Degradation, Operator, Params, Shape
from degradations.gaussian import check_blur, gaussian_taps


class CircularBlur(Operator):
    """A x = F^-1(K * F x): circular convolution with a kernel whose discrete Fourier transform is K; A^T has conj(K).

    The singular values are |K|. The real orthonormal basis V is the discrete Hartley transform, its own inverse
    (Bracewell 1983), and U = P V with the phase filter P = K / |K|, so that U S V^T = A for every real kernel,
    symmetric or not.

    Args:
        kernel: [k, l], or [B, k, l] for one kernel per image, centred at (k // 2, l // 2), no larger than the image
            (ValueError).
        shape: (C, H, W) of the images.
        threshold: tau; A^+ has conj(K) / |K|^2 where |K| > tau and 0 elsewhere: the Moore-Penrose inverse of the
            operator truncated at tau.
    """

    def __init__(
        self, kernel: Tensor, shape: Shape, *, threshold: float = 3e-2, description: str = "circular blur"
    ) -> None:
        kernel = kernel.detach().double()
        kernel = kernel[None] if kernel.ndim == 2 else kernel
        _, height, width = shape
        if kernel.ndim != 3 or kernel.shape[1] > height or kernel.shape[2] > width:
            raise ValueError(
                f"kernel must have shape [k, l] or [B, k, l] with k <= {height} and l <= {width}, got"
                f" {list(kernel.shape)}"
            )
        padded = kernel.new_zeros(len(kernel), height, width)
        padded[:, : kernel.shape[1], : kernel.shape[2]] = kernel
        padded = padded.roll((-(kernel.shape[1] // 2), -(kernel.shape[2] // 2)), (1, 2))
        spectrum = torch.fft.fft2(padded)[:, None]
        # Hermitian to the last bit: rounding would make the phase of vanishing values inconsistent, and P no longer
        # real.
        spectrum = (spectrum + _negative_frequencies(spectrum).conj()) / 2
        self._spectrum = spectrum  # [B or 1, 1, H, W]
        self._magnitude = spectrum.abs()
        self._gain = float(kernel.abs().sum((1, 2)).max())
        self._norm = float(self._magnitude.max())
        self.threshold = threshold
        self.input_shape = self.output_shape = image_shape(shape)
        self.description = description

    def __call__(self, x: Images) -> Measurements:
        return self._filter(self._spectrum, x)

    def adjoint(self, y: Measurements) -> Images:
        return self._filter(self._spectrum.conj(), y)

    def pseudo_inverse(self, y: Measurements) -> Images:
        kept = self._magnitude > self.threshold
        return self._filter(self._spectrum.conj() * torch.where(kept, self._magnitude, torch.inf) ** -2, y)

    @property
    def svd(self) -> SVD:
        phase = torch.where(self._magnitude > 0, self._spectrum / self._magnitude, 0)
        values = self._magnitude.expand(-1, self.input_shape[0], -1, -1).flatten(1)

        def v(c: Tensor) -> Tensor:
            return _hartley(c.unflatten(1, self.input_shape))

        def vt(x: Tensor) -> Tensor:
            return _hartley(x).flatten(1)

        def ut(y: Tensor) -> Tensor:
            # exactly 0 where the singular value is, which the filter alone leaves to rounding
            return vt(self._filter(phase.conj(), y)) * (values > 0).to(y.device)

        return SVD(
            singular_values=values[0] if len(values) == 1 else values,
            v=v,
            vt=vt,
            u=lambda c: self._filter(phase, v(c)),
            ut=ut,
        )

    @property
    def output_range(self) -> tuple[float, float]:
        """-+ sum |kernel|, the largest over the images."""
        return (-self._gain, self._gain)

    def norm(self) -> float:
        """max |K|: 1 for a kernel that is not negative and sums to 1."""
        return self._norm

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "CircularBlur":
        if len(self._spectrum) == 1:
            return self
        chosen = object.__new__(CircularBlur)
        vars(chosen).update(vars(self))
        chosen._spectrum, chosen._magnitude = choose(self._spectrum), choose(self._magnitude)
        return chosen

    def _filter(self, spectrum: Tensor, x: Tensor) -> Tensor:
        """F^-1(spectrum * F x), real because the spectrum is Hermitian: half of the frequencies are enough."""
        if len(spectrum) not in (1, len(x)):
            raise ValueError(
                f"this operator holds {len(spectrum)} kernels, got {len(x)} images; for several samples per image use"
                " repeat"
            )
        half = spectrum[..., : x.shape[-1] // 2 + 1].to(x.device, x.dtype.to_complex())
        return torch.fft.irfft2(half * torch.fft.rfft2(x), s=x.shape[-2:])


class CircularGaussianBlur(Degradation):
    """y = k * x (circular), k a Gaussian of `std` pixels, truncated at radius int(4 std + 0.5), sum 1: a constant image
    stays as it is.

    Args:
        std: in pixels. What is lost depends on it alone, whatever the image side: of the singular values, 44 % are
            below 3e-2 at std 1 and 94 % at std 3.
        threshold: singular values up to this are taken for zero by the pseudo-inverse (3e-2, as in DDRM, Kawar et al.
            2022), which amplifies noise by at most 1 / threshold.

    Raises:
        UserError: where the kernel is larger than the image: it would wrap around and overlap itself.
    """

    def __init__(self, *, std: float, threshold: float = 3e-2) -> None:
        check_blur(std, threshold)
        self.std, self.threshold = std, threshold

    def bind(self, params: Params, shape: Shape) -> CircularBlur:
        del params
        taps = gaussian_taps(self.std)
        if len(taps) > min(shape[1:]):
            raise UserError(
                f"std={self.std:g} needs a kernel of {len(taps)}x{len(taps)} pixels, more than the image of"
                f" {shape[1]}x{shape[2]}: choose std below {((min(shape[1:]) - 1) // 2 + 0.5) / 4:g}, or"
                " ReflectingGaussianBlur"
            )
        description = f"Gaussian blur (circular), std {self.std:g}"
        return CircularBlur(torch.outer(taps, taps), shape, threshold=self.threshold, description=description)


def _negative_frequencies(spectrum: Tensor) -> Tensor:
    """The spectrum at (-u, -v)."""
    return spectrum.flip(-2, -1).roll((1, 1), (-2, -1))


def _hartley(x: Tensor) -> Tensor:
    """sum_ij x_ij cas(2 pi (u i / H + v j / W)) / sqrt(H W), cas = cos + sin: real, orthonormal, symmetric, its own
    inverse.
    """
    spectrum = torch.fft.fft2(x, norm="ortho")
    return spectrum.real - spectrum.imag
