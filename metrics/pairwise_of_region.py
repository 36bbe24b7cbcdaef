"""How far apart two samples of one measurement are where something is missing, and where nothing is."""

from typing import Literal

import torch
from torch import Tensor

from degradations.measurement import Measurement
from metrics.base import InFeatures, SetMetric
from metrics.features import FeatureNetwork
from metrics.samples import features_of_samples, pairs_of_samples, sample_rows


class PairwiseRMSEOfRegion(SetMetric):
    """Mean over pairs of samples of sqrt(mean over the pixels of a region of (x_i - x_j)^2), in [-1, 1] units.

    Of exact posterior samples it is as large as the RMSE of one to the truth there, so neither end is best; beyond
    sqrt(2) times the noise it is no virtue on measured pixels. Where A is no mask the region is the whole image; one
    without pixels has 0.

    Args:
        region: "missing" or "measured" pixels of a mask.
    """

    label = "pairwise RMSE"
    unit = "in [-1, 1]"
    lowest = 0.0
    needs_measurement = True

    def __init__(self, *, region: Literal["missing", "measured"] = "missing") -> None:
        if region not in ("missing", "measured"):
            raise ValueError(f"region must be missing or measured, got '{region}'")
        self.region = region
        self.label = f"pairwise RMSE, {region} pixels"

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        x = sample_rows(samples, truth)[0]
        measured = _measured(truth, measurement)
        if measured is None:
            return pairs_of_samples(x)
        region = (measured if self.region == "measured" else ~measured).flatten(1).double()
        share = region.mean(1).clamp(min=1 / region.shape[1])  # of no pixel: 0 / 1 pixel
        return pairs_of_samples(x * region[:, None]) / share.sqrt()


class PairwiseFeaturesOfMissing(InFeatures, SetMetric):
    """Mean over pairs of samples of sqrt(mean_d (f_d(x_i) - f_d(x_j))^2) in the features f of a network, the measured
    pixels of every sample replaced by the true ones: what differs is what was made up.

    The like of :class:`metrics.feature_rmse.FeatureRMSE`, which it equals for one sample and the truth from an exact
    posterior; so neither end is best. Where A is no mask nothing is replaced.

    Args:
        features: the network; the config's own `features` where it names none.
    """

    label = "pairwise feature RMSE, missing pixels"
    unit = "of the network"
    lowest = 0.0
    needs_measurement = True

    def __init__(self, *, features: FeatureNetwork) -> None:
        super().__init__(features=features)

    def __call__(self, samples: Tensor, truth: Tensor, measurement: Measurement | None) -> Tensor:
        sample_rows(samples, truth)
        measured = _measured(truth, measurement)
        if measured is not None:
            samples = torch.where(measured[:, None], truth[:, None], samples)
        found = features_of_samples(self.features, samples, truth).features
        return pairs_of_samples(found.double()).to(samples.device)


def _measured(truth: Tensor, measurement: Measurement | None) -> Tensor | None:
    """Where the pixels of these images are measured as they are, bool like truth; None where A is no mask."""
    operator = None if measurement is None else measurement.operator
    if operator is None or not operator.keeps_pixels or operator.mask is None:
        return None
    return (operator.mask > 0).to(truth.device).expand_as(truth)
