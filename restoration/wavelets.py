"""The classical baseline that knows that pictures are sparse: thresholds of wavelet coefficients."""

import numpy as np
import pywt
import skimage

from restoration.denoising import LibraryDenoiser


class Wavelets(LibraryDenoiser):
    """x = mean over shifts s of S_s^-1 W^-1 soft(W S_s y, T), W a wavelet transform, S_s a circular shift, and for each
    band of coefficients T = sigma^2 / sqrt(max(var - sigma^2, 0)), var the variance of the band (BayesShrink).

    scikit-image's `denoise_wavelet`, colour as YCbCr, averaged over shifts by its `cycle_spin`. Denoising alone. Chang,
    Yu and Vetterli 2000 (DOI 10.1109/83.862633); Coifman and Donoho 1995 (10.1007/978-1-4612-2544-7_9).

    Args:
        wavelet: one of PyWavelets' discrete ones, best an orthogonal one; db1 is Haar's.
        shifts: the largest shift in pixels along each axis, 0 for none; (shifts + 1)^2 transforms. 3 is 0.9 to 1.5 dB
            better than 0 for Haar's on four pictures of BSDS400 at 15, 25 and 50 of 255.

    Raises:
        ValueError: options out of range.
    """

    def __init__(self, *, wavelet: str = "db1", shifts: int = 3) -> None:
        if shifts < 0:
            raise ValueError(f"shifts must be at least 0, got {shifts}")
        if wavelet not in pywt.wavelist(kind="discrete"):  # pyright: ignore[reportAttributeAccessIssue] (made at import)
            raise ValueError(f"wavelet must be one of PyWavelets' discrete ones, such as db1 or sym4, got '{wavelet}'")
        self.wavelet, self.shifts = wavelet, shifts

    def denoise(self, picture: np.ndarray, sigma: float) -> np.ndarray:
        options = {"sigma": sigma, "wavelet": self.wavelet, "method": "BayesShrink", "channel_axis": -1}
        options["convert2ycbcr"] = picture.shape[-1] == 3
        return skimage.restoration.cycle_spin(
            picture,
            func=skimage.restoration.denoise_wavelet,
            max_shifts=self.shifts,
            workers=1,
            func_kw=options,
            channel_axis=-1,
        )
