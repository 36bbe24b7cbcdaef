"""Gaussian blur, step after step: the degradation of the paper's deblurring and of generation from blur."""

import math
from typing import Literal

import torch
from torch import Tensor

from common.errors import UserError
from degradations.base import Params, Shape
from degradations.severity.base import check_steps
from degradations.severity.separable import SeparableFamily, quantised

# data: (steps, taps, standard deviation of step i, border)
_CONSTANTS = {
    "mnist": (20, 11, (7.0, 0.0, 0.0), "circular"),
    "cifar10": (50, 11, (0.35, 0.01, 0.0), "reflect"),
    "celeba_64": (100, 15, (1.0, 0.0, 0.01), "reflect"),
    "celeba": (200, 15, (1.0, 0.0, 0.01), "reflect"),
    "generation": (300, 27, (1.0, 0.0, 0.01), "circular"),
}


class GaussianBlur(SeparableFamily):
    """D(x, t) = G_{t-1} * ... * G_0 * x, G_i a Gaussian of `taps` x `taps` pixels and standard deviation (std +
    std_step i) exp(std_rate i), sum 1.

    In closed form: a circular convolution is diagonal in the discrete Fourier basis, one whose border mirrors
    without repeating the edge pixel (torch's "reflect") in the basis of the DCT-I, so that t kernels are the product
    of their eigenvalues; rows and columns separate.

    Args:
        data: the constants of the released commands, any of which the other arguments replace: "mnist" (28 or 32
            pixels) 20 steps, 11 taps, std 7, circular; "cifar10" 50 steps, 11 taps, std 0.35 + 0.01 i, reflect;
            "celeba" (128 pixels) 200 steps, 15 taps, std exp(0.01 i), reflect; "celeba_64" the same with 100 steps (the
            paper has none of 64 pixels: at half the size half of the steps leave the same detail relative to the image
            within 15 %); "generation" 300 steps, 27 taps, std exp(0.01 i), circular. The truncation of the kernel
            matters: 11 taps of std 7 have a true std of 3.04.
        steps: T, the number of severities; null: that of `data`.
        taps: side of each kernel in pixels, odd; null: that of `data`.
        std: standard deviation of the first kernel in pixels; null: that of `data`.
        std_step: growth of the standard deviation per step in pixels; null: that of `data`.
        std_rate: exponential growth of the standard deviation per step; null: that of `data`.
        border: "circular" or "reflect" (without repeating the edge pixel); null: that of `data`.
        to_mean: D(x, T) is the mean of each channel, a jump.
        truncate: see SeparableFamily. The paper's MNIST has steps=40.

    Raises:
        UserError: where the kernel is wider than the image (circular), or its half is not smaller than the image
            (reflect).
    """

    def __init__(
        self,
        *,
        data: Literal["mnist", "cifar10", "celeba_64", "celeba", "generation"] = "mnist",
        steps: int | None = None,
        taps: int | None = None,
        std: float | None = None,
        std_step: float | None = None,
        std_rate: float | None = None,
        border: Literal["circular", "reflect"] | None = None,
        to_mean: bool = False,
        truncate: bool = False,
    ) -> None:
        super().__init__(truncate=truncate)
        if data not in _CONSTANTS:
            raise UserError(f"data must be one of {', '.join(_CONSTANTS)}, got '{data}'")
        default_steps, default_taps, default_std, default_border = _CONSTANTS[data]
        self.severities = default_steps if steps is None else steps
        self.taps = default_taps if taps is None else taps
        given = (std, std_step, std_rate)
        self.std, self.std_step, self.std_rate = (
            d if g is None else float(g) for d, g in zip(default_std, given, strict=True)
        )
        self.border, self.to_mean = border or default_border, to_mean
        check_steps("steps", self.severities)
        check_steps("taps", self.taps)
        if self.taps % 2 == 0:
            raise UserError(f"taps must be odd, so that a kernel has a centre, got {self.taps}")
        if self.border not in ("circular", "reflect"):
            raise UserError(f"border must be circular or reflect, got '{self.border}'")
        self.stds = [(self.std + self.std_step * i) * math.exp(self.std_rate * i) for i in range(self.severities)]
        if not min(self.stds) > 0:
            raise UserError(
                f"the standard deviation must be positive at every step, got {min(self.stds):g}: raise std, or lower"
                " std_step"
            )
        self.linear = self.linear and not to_mean
        self.description = (
            f"Gaussian blur ({self.border}), {self.severities} steps of {self.taps} taps, std"
            f" {self.stds[0]:.4g}..{self.stds[-1]:.4g}"
        )

    def check(self, shape: Shape) -> None:
        least = min(shape[1:])
        if self.border == "circular" and self.taps > least:
            raise UserError(
                f"taps={self.taps} is wider than the image of {shape[1]}x{shape[2]} pixels: take fewer taps, or larger"
                " images"
            )
        if self.border == "reflect" and self.taps // 2 >= least:
            raise UserError(
                f"taps={self.taps} reaches {self.taps // 2} pixels to each side, and the image has"
                f" {shape[1]}x{shape[2]}: take fewer taps"
            )

    @property
    def true_std(self) -> float:
        """The standard deviation in pixels of all steps together, by the variances of the truncated kernels."""
        offsets = torch.arange(self.taps, dtype=torch.float64) - self.taps // 2
        return float(sum((k * offsets.square()).sum() for k in map(self._kernel, self.stds)) ** 0.5)

    def matrices(self, side: int) -> Tensor:
        kernels = torch.stack([self._kernel(std) for std in self.stds])
        offsets = torch.arange(self.taps) - self.taps // 2
        if self.border == "circular":
            frequency = torch.arange(side, dtype=torch.float64) * (2 * math.pi / side)
            basis = torch.exp(1j * torch.outer(torch.arange(side, dtype=torch.float64), frequency)) / side**0.5
            inverse = basis.conj().mT
        else:
            frequency = (
                torch.arange(side, dtype=torch.float64) * (math.pi / (side - 1))
                if side > 1
                else torch.zeros(1, dtype=torch.float64)
            )
            basis = torch.cos(torch.outer(torch.arange(side, dtype=torch.float64), frequency))
            inverse = torch.linalg.inv(basis)
        # A symmetric kernel k has the eigenvalue sum_o k[o] cos(o w) for the cosine (or exponential) of frequency w, in
        # both bases.
        eigenvalues = (kernels[:, :, None] * torch.cos(offsets[:, None] * frequency)).sum(1)
        products = torch.cat([eigenvalues.new_ones(1, side), eigenvalues.cumprod(0)])
        matrices = (basis * products[:, None, :].to(basis.dtype)) @ inverse
        matrices = matrices.real if matrices.is_complex() else matrices
        matrices[0] = torch.eye(side, dtype=torch.float64)
        return matrices.contiguous()

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        y = super().degrade(x, t, params)
        if not self.to_mean:
            return y
        mean = x.mean((2, 3), keepdim=True)
        mean = quantised(mean) if self.truncate else mean
        return torch.where((t == self.severities).view(-1, 1, 1, 1), mean, y)

    def _kernel(self, std: float) -> Tensor:
        offsets = torch.arange(self.taps, dtype=torch.float64) - self.taps // 2
        weights = torch.exp(-offsets.square() / (2 * std * std))
        return weights / weights.sum()
