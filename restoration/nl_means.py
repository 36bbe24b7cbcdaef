"""The classical baseline that knows that pictures repeat themselves: non-local means."""

import numpy as np
import skimage

from restoration.denoising import LibraryDenoiser


class NLMeans(LibraryDenoiser):
    """x_i = sum_j w_ij y_j / sum_j w_ij, w_ij = exp(-max(0, |P_i - P_j|^2 - 2 sigma^2) / h^2), with P_i the patch at
    pixel i, |.|^2 the mean over its pixels and channels, and j within `distance` of i in both directions.

    scikit-image's fast mode, with the level of the noise given to it. Denoising alone. Buades, Coll and Morel 2005 (DOI
    10.1109/CVPR.2005.38) and 2011 (10.5201/ipol.2011.bcm_nlm); Darbon et al. 2008 (10.1109/ISBI.2008.4541250).

    Args:
        patch: side of a patch in pixels, odd, at least 3 (the library sums one row and column less).
        distance: how far away patches are looked for, in pixels.
        strength: h by the sigma of the noise; more is smoother. The defaults are those of the library's example of this
            mode; its documentation says 0.8, with which four pictures of BSDS400 have 0.3 to 0.7 dB less at 15, 25 and
            50 of 255.

    Raises:
        ValueError: options out of range.
    """

    def __init__(self, *, patch: int = 5, distance: int = 6, strength: float = 0.6) -> None:
        if patch < 3 or patch % 2 == 0 or distance < 1 or not 0 < strength < float("inf"):
            raise ValueError(
                "patch must be odd and at least 3, distance at least 1 and strength positive and finite, got"
                f" {patch}, {distance}, {strength}"
            )
        self.patch, self.distance, self.strength = patch, distance, strength

    def denoise(self, picture: np.ndarray, sigma: float) -> np.ndarray:
        return skimage.restoration.denoise_nl_means(
            picture, self.patch, self.distance, self.strength * sigma, fast_mode=True, sigma=sigma, channel_axis=-1
        )
