"""How far an image is from its truth in the features of a network."""

from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import InFeatures, Metric
from metrics.distortion import pixel_pair
from metrics.features import FeatureNetwork


class FeatureRMSE(InFeatures, Metric):
    """sqrt(mean_d (f_d(x) - f_d(truth))^2) of the features f of a frozen network, in its own units: 0 for equal images,
    larger is worse.

    With a classifier of this project it asks whether a restoration means the same (the digit and its kind), not whether
    pixels agree; values of two networks cannot be compared, and none is LPIPS. It is the feature reconstruction loss of
    Johnson et al. 2016 (1603.08155), equation 2, in its square root.

    Args:
        features: the network; the config's own `features` where it names none.
    """

    label = "feature RMSE"
    unit = "of the network"
    higher_is_better = False
    lowest = 0.0

    def __init__(self, *, features: FeatureNetwork) -> None:
        super().__init__(features=features)

    def __call__(self, pixels: Tensor, truth: Tensor, measurement: Measurement) -> Tensor:
        del measurement
        pixel_pair(pixels, truth)
        f, reference = (self.features.of(images).features.double() for images in (pixels, truth))
        return (f - reference).square().mean(1).sqrt().to(pixels.device)
