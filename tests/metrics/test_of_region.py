"""Any metric inside and outside of what a mask took away."""

import math

import pytest
import torch
from metric_toys import Quadrants, images, measured, worse

from common.errors import UserError
from common.image_range import to_float
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from evaluation.built_metrics import build_metrics
from metrics.calibration import Calibration
from metrics.classes import ClassesOfSamples
from metrics.crps import CRPS
from metrics.of_region import OfRegion, SamplesOfRegion
from metrics.pairwise_of_region import PairwiseFeaturesOfMissing
from metrics.pairwise_rmse import PairwiseRMSE
from metrics.psnr import PSNR
from metrics.psnr_of_mask import PSNRMeasured, PSNRMissing
from metrics.rmse import RMSE
from metrics.ssim import SSIM
from metrics.vendi import VendiOfSamples

REGIONS = ("missing", "measured")


def world():
    """Five images with a box of 6x6 missing, and four samples of each that are wrong everywhere."""
    truth = images()
    samples = torch.stack([worse(truth, 0.3, seed) for seed in range(1, 5)], 1)
    return samples, truth, measured(truth, BoxMask(size=6))


@pytest.mark.parametrize("region", REGIONS)
def test_of_one_region_by_hand(region):
    """PSNR of all pixels is that of the region plus the share of the region in dB, which another class computes."""
    samples, truth, m = world()
    found = OfRegion(metric=PSNR(), region=region)(samples[:, 0], truth, m)
    alone = {"missing": PSNRMissing(), "measured": PSNRMeasured()}[region](samples[:, 0], truth, m)
    mask = m.operator.mask.expand_as(truth).double()
    share = (mask if region == "measured" else 1 - mask).flatten(1).mean(1)
    torch.testing.assert_close(found, alone - 10 * share.log10(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("metric", [SSIM(), RMSE()], ids=["ssim", "rmse"])
def test_what_lies_outside_makes_no_difference(metric, region):
    samples, truth, m = world()
    measured_pixels = (m.operator.mask > 0).expand_as(truth)
    outside = measured_pixels if region == "missing" else ~measured_pixels
    other = torch.where(outside, 255 - samples[:, 0], samples[:, 0])
    at_region = torch.where(outside, samples[:, 0], 255 - samples[:, 0])
    of = OfRegion(metric=metric, region=region)
    assert torch.equal(of(other, truth, m), of(samples[:, 0], truth, m))
    assert not torch.equal(of(at_region, truth, m), of(samples[:, 0], truth, m))


def test_of_samples_beside_the_metric_that_was_written_for_it():
    """The same distances of features, by two classes; and of both regions the CRPS adds up to that of all pixels."""
    samples, truth, m = world()
    network = Quadrants()
    inside, outside = (SamplesOfRegion(metric=CRPS(), region=r)(samples, truth, m) for r in REGIONS)
    torch.testing.assert_close(inside + outside, CRPS()(samples, truth, None), rtol=1e-9, atol=1e-12)
    vendi = SamplesOfRegion(metric=VendiOfSamples(features=network))(samples, truth, m)
    filled = torch.where((m.operator.mask > 0).expand_as(truth)[:, None], truth[:, None], samples)
    torch.testing.assert_close(vendi, VendiOfSamples(features=network)(filled, truth, None))
    assert PairwiseFeaturesOfMissing(features=network)(samples, truth, m).shape == vendi.shape


def test_one_column_of_several():
    samples, truth, m = world()
    metric = ClassesOfSamples(features=Quadrants())
    filled = torch.where((m.operator.mask > 0).expand_as(truth)[:, None], truth[:, None], samples)
    expected = metric(filled, truth, None)
    first = SamplesOfRegion(metric=metric)
    second = SamplesOfRegion(metric=metric, column="ClassesOfSamples_entropy")
    assert torch.equal(first(samples, truth, m), expected[:, 0])
    assert torch.equal(second(samples, truth, m), expected[:, 1])
    (column,) = second.columns("entropy_missing")
    assert (column.name, column.label, column.unit) == ("entropy_missing", "their entropy, missing pixels", "nats")
    assert second.part_names("entropy_missing") == ("entropy_missing",)
    assert (
        first.fingerprint() != second.fingerprint() != SamplesOfRegion(metric=metric, region="measured").fingerprint()
    )


def test_a_column_of_pooled_numbers_stays_pooled():
    (column,) = OfRegion(metric=RMSE()).columns("rmse_missing")
    (plain,) = RMSE().columns("rmse")
    assert column.of_means is plain.of_means and column.best == plain.best and column.lowest == plain.lowest


def test_no_region_no_number():
    """A blur has none; a mask of which nothing is missing has one region."""
    samples, truth, _ = world()
    pooled = measured(truth, AveragePool(factor=2))
    assert SamplesOfRegion(metric=PairwiseRMSE())(samples, truth, pooled).isnan().all()
    assert OfRegion(metric=SSIM())(samples[:, 0], truth, pooled).isnan().all()
    all_of_it = Measurement(
        y=to_float(truth),
        operator=Mask(torch.ones(truth.shape[2:]), channels=1),
        noise=GaussianNoise(sigma=0.0),
        index=tuple(range(5)),
    )
    assert OfRegion(metric=SSIM())(samples[:, 0], truth, all_of_it).isnan().all()
    assert OfRegion(metric=SSIM(), region="measured")(samples[:, 0], truth, all_of_it).isfinite().all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OfRegion(metric=SSIM(), region="inside"), "region must be missing or measured, got 'inside'"),
        (lambda: OfRegion(metric=SSIM(), column="density"), "column must be one of SSIM, got 'density'"),
        (lambda: SamplesOfRegion(metric=Calibration()), "is computed from several numbers"),
    ],
)
def test_what_does_not_fit_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---------------------------------------------------------------- in a config


def built(metrics, features=None):
    return build_metrics(metrics, features=features, shapes=[(1, 28, 28)], device=torch.device("cpu"), reference=None)


def test_the_metric_inside_gets_the_network_of_the_config():
    spec = {"class_path": "metrics.of_region.SamplesOfRegion", "init_args": {"metric": "metrics.vendi.VendiOfSamples"}}
    with pytest.raises(UserError, match=r"metrics\.vendi_missing\.metric compares features: give 'features'"):
        built({"vendi_missing": spec})
    network = {
        "class_path": "checkpoints.features.ClassifierFeatures",
        "init_args": {"path": "assets/classifier_mnist.safetensors"},
    }
    found = built({"vendi_missing": spec}, network)
    assert not found.missing and math.isfinite(found.samples["vendi_missing"].columns("vendi_missing")[0].lowest)
    assert found.sample_columns == ("vendi_missing",)


def test_a_metric_inside_that_has_no_number_says_why():
    """Real images are not to be had here; a metric of sets is no metric of samples."""
    spec = {
        "class_path": "metrics.of_region.SamplesOfRegion",
        "init_args": {"metric": "metrics.precision_of_samples.PrecisionOfSamples"},
    }
    network = {
        "class_path": "checkpoints.features.ClassifierFeatures",
        "init_args": {"path": "assets/classifier_mnist.safetensors"},
    }
    assert "compares with real images" in built({"precision_missing": spec}, network).missing["precision_missing"]
    with pytest.raises(UserError, match=r"metrics\.x\.metric: 'metrics\.fid\.FID' is not a usable SetMetric"):
        built({"x": {"class_path": spec["class_path"], "init_args": {"metric": "metrics.fid.FID"}}}, network)
