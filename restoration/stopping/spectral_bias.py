"""Stop where the output's blurriness over its sharpness has settled: the rule of Shi et al., made for networks that
cannot fit noise.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Unsupported
from restoration.stopping.base import StoppingCriterion, Verdict, Watch

_TAPS = 9  # of the box that blurs once more
_STRONGEST, _DECAY = 1000, 0.01  # variations that count, and how fast they count less
_LEAST = 16  # pixels a side
_GREY = (0.299, 0.587, 0.114)


class SpectralBias(StoppingCriterion):
    """q = blurriness(f) / sharpness(f) of the raw output; stop where |mean of the last `window` q - mean of the
    `window` before| < tolerance.

    Blurriness rises and sharpness falls with the share of high frequencies, so q falls while they are learned. Shi
    et al. 2021 (2107.01125), equation 8, with the constants of their release. Theirs is a network with
    Lipschitz-normalised layers and Gaussian upsampling, in which high frequencies come to an end; in an ordinary one
    q goes on falling while noise is fitted, and the rule stops late or never. Needs neither sigma nor truth.

    Args:
        window: iterations in each of the two means that are compared (default 100, as released).
        tolerance: difference of the two means below which the fit ends, positive (default 0.01, as released).
        average: answer with the averaged iterate at that iteration (the paper answers with the raw one).

    Raises:
        ValueError: a window below 1 or a tolerance that is not positive. Unsupported for images with a side below 16
            pixels.
    """

    def __init__(self, *, window: int = 100, tolerance: float = 0.01, average: bool = True) -> None:
        if window < 1 or not tolerance > 0:
            raise ValueError(f"window must be at least 1 and tolerance positive, got {window} and {tolerance}")
        self.window, self.tolerance, self.average = window, tolerance, average

    def check(self, operator: Operator, noise: Noise) -> None:
        if min(operator.input_shape[1:]) < _LEAST:
            raise Unsupported(
                f"spectral bias needs images of at least {_LEAST} pixels a side: take another stopping criterion"
            )

    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        del random, iterations
        return _Watch(measurement, self.window, self.tolerance, self.average)


class _Watch(Watch):
    signal = "ratio"

    def __init__(self, measurement: Measurement, window: int, tolerance: float, average: bool) -> None:
        super().__init__(measurement)
        self.average, self._window, self._tolerance = average, window, tolerance
        images, device = len(measurement.y), measurement.y.device
        self.ratios = torch.zeros(images, 2 * window, dtype=torch.float64, device=device)  # oldest first
        self.stopped = torch.zeros(images, dtype=torch.bool, device=device)

    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        image = grey((output.double() + 1) / 2)
        blurriness, sharpness = crete_blurriness(image), mlv_sharpness(image)
        ratio = blurriness / sharpness.clamp(min=1e-12)
        self.ratios = torch.cat([self.ratios[:, 1:], ratio[:, None]], 1)
        change = (self.ratios[:, self._window :].mean(1) - self.ratios[:, : self._window].mean(1)).abs()
        settled = (change < self._tolerance) & ~self.stopped & (iteration >= 2 * self._window)
        self.stopped = self.stopped | settled
        self.values = {"ratio": ratio, "blurriness": blurriness, "sharpness": sharpness}
        return Verdict(improved=settled, stop=self.stopped)

    def reason(self, image: int) -> str:
        return (
            f"blurriness over sharpness of the output had settled to {self._tolerance:g} between one {self._window}"
            " iterations and the next"
        )


def grey(image: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H, W]: luma (BT.601) of three channels, else their mean."""
    if image.shape[1] != 3:
        return image.mean(1)
    return (image * image.new_tensor(_GREY)[:, None, None]).sum(1)


def crete_blurriness(image: Tensor) -> Tensor:
    """max over both directions of 1 - sum (|D v| - |D v'|)_+ / sum |D v|: how little of its variation a picture loses
    when blurred once more, in [0, 1]; [B].

    image: [B, H, W]. D: differences of neighbours; v': v blurred by a box of 9 taps in the direction of D. 1 for a
    constant picture. Crete et al. 2007.
    """
    return torch.maximum(_blurriness_along_rows(image), _blurriness_along_rows(image.mT))


def _blurriness_along_rows(image: Tensor) -> Tensor:
    half = _TAPS // 2
    blurred = F.avg_pool2d(image[:, None], (1, _TAPS), 1)[:, 0]
    # Both directions look at the same pixels, those that the box fits around.
    sharp = image[:, half:-half, half:-half].diff(dim=-1).abs()
    lost = (sharp - blurred[:, half:-half].diff(dim=-1).abs()).clamp(min=0)
    total = sharp.flatten(1).sum(1)
    return 1 - lost.flatten(1).sum(1) / total.clamp(min=1e-12)


def mlv_sharpness(image: Tensor) -> Tensor:
    """sqrt(mean over ranks r = 1 .. 1000 of (exp(-0.01 r) m_r)^2), m_1 >= m_2 >= ... the largest rises from a pixel to
    one of its 8 neighbours; [B].

    image: [B, H, W] in [0, 1]. Maximum local variation, Bahrami and Kot 2014, with signed rises as in the release of
    Shi et al. (theirs begins at rank 3).
    """
    centre = image[:, 1:-1, 1:-1]
    # the centre itself is among the nine: 0 where no neighbour is higher
    rise = F.max_pool2d(image[:, None], 3, 1)[:, 0] - centre
    strongest = rise.flatten(1).topk(min(_STRONGEST, rise[0].numel()), dim=1).values
    rank = torch.arange(1, strongest.shape[1] + 1, dtype=image.dtype, device=image.device)
    return (strongest * (-_DECAY * rank).exp()).square().mean(1).sqrt()
