"""Samples of one measurement: classes, cosines, pairs; and the pixels of a mask; against loops and closed forms."""

import math

import pytest
import torch
from metric_toys import Quadrants, images, measured, worse
from sklearn.metrics.pairwise import cosine_similarity

from degradations.average_pool import AveragePool
from degradations.random_mask import RandomMask
from metrics.base import Missing
from metrics.classes import ClassCount, ClassEntropy, ClassesOfSamples
from metrics.distortion import psnr
from metrics.features import Features
from metrics.ms_ssim import ms_ssim
from metrics.pairwise_cosine import PairwiseCosine, pairwise_cosine
from metrics.pairwise_perceptual import PairwiseMSSSIM
from metrics.psnr_of_mask import PSNRMeasured, PSNRMissing
from metrics.sample_deviation import SampleDeviation


class NoClasses(Quadrants):
    def of(self, images):
        return Features(super().of(images).features)


def test_classes_among_samples():
    """Images of one bright quadrant each: what is mixed into the samples is what is counted."""
    quadrant, metric = images(4), ClassesOfSamples(features=Quadrants())
    drawn = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 2, 3], [3, 2, 3, 3]])
    found = metric(quadrant[drawn], quadrant, None)
    assert found[:, 0].tolist() == [1, 2, 4, 2]
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert found[:, 1].tolist() == pytest.approx([0, math.log(2), math.log(4), quarter])
    assert [c.name for c in metric.columns("classes")] == ["classes", "classes_entropy"]
    with pytest.raises(Missing, match="quadrants gives no probabilities"):
        ClassesOfSamples(features=NoClasses()).check((1, 16, 16))


def test_classes_of_a_set():
    """980 of one class, 19 of a second, one of a third, none of a fourth."""
    probabilities = torch.eye(4)[torch.tensor([0] * 980 + [1] * 19 + [2])]
    found = Features(torch.zeros(1000, 2), probabilities)
    shares = torch.tensor([0.98, 0.019, 0.001], dtype=torch.float64)
    entropy = ClassEntropy(features=Quadrants()).compute(found, found)
    assert entropy.value == pytest.approx(float(-(shares * shares.log()).sum())) and 0 <= entropy.low < entropy.value
    assert ClassCount(features=Quadrants()).compute(found, found).value == 3
    assert ClassCount(features=Quadrants(), share=0.01).compute(found, found).value == 2
    for metric in (ClassEntropy(features=Quadrants()), ClassCount(features=Quadrants())):
        with pytest.raises(Missing, match="gives no probabilities"):
            metric.compute(Features(found.features), found)
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 0"):
        ClassCount(features=Quadrants(), share=0)


def test_cosine_of_pairs():
    features = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(0))
    for found, rows in zip(pairwise_cosine(features), features, strict=True):
        matrix = cosine_similarity(rows.double())
        assert float(found) == pytest.approx((matrix.sum() - 6) / 30, abs=1e-12)
    assert pairwise_cosine(torch.ones(1, 4, 3)).item() == pytest.approx(1)
    assert pairwise_cosine(torch.tensor([[[1.0, 0.0], [0.0, 5.0]], [[1.0, 0.0], [-2.0, 0.0]]])).tolist() == [0, -1]
    assert pairwise_cosine(torch.zeros(1, 2, 3)).isnan().all()


def test_pairs_are_means_over_all_pairs_of_samples():
    truth = images(2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    samples = torch.stack([worse(truth, 0.2, seed) for seed in range(3)], 1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = sum(ms_ssim(samples[:, i], samples[:, j], scales=2) for i, j in pairs) / 3
    torch.testing.assert_close(PairwiseMSSSIM(scales=2)(samples, truth, None), expected, rtol=1e-12, atol=0)
    network = Quadrants()
    f = torch.stack([network.of(samples[:, k]).features for k in range(3)], 1).double()
    cosine = sum(torch.nn.functional.cosine_similarity(f[:, i], f[:, j]) for i, j in pairs) / 3
    torch.testing.assert_close(PairwiseCosine(features=network)(samples, truth, None), cosine, rtol=1e-9, atol=0)
    variance = SampleDeviation()(samples, truth, None)
    torch.testing.assert_close(variance, (samples.double() / 127.5).var(1).mean((1, 2, 3)), rtol=1e-5, atol=0)
    (column,) = SampleDeviation().columns("deviation")
    assert column.of_means([variance.mean().numpy()]) == pytest.approx(float(variance.mean()) ** 0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_of_missing_and_of_measured_pixels(channels):
    truth = images(channels=channels)
    x, m = worse(truth, 0.3), measured(truth, RandomMask(removed=0.4))
    mask = m.operator.mask.expand_as(truth).bool()
    for metric, chosen in ((PSNRMissing(), ~mask), (PSNRMeasured(), mask)):
        found = metric(x, truth, m)
        for b in range(len(truth)):
            error = (x[b][chosen[b]].double() - truth[b][chosen[b]].double()).square().mean()
            assert float(found[b]) == pytest.approx(float(10 * torch.log10(255**2 / error)))
        assert metric(truth, truth, m).tolist() == [100] * 5
    # Errors of missing pixels alone: nothing is lost among the measured ones.
    mixed = torch.where(mask, truth, x)
    assert PSNRMeasured()(mixed, truth, m).tolist() == [100] * 5
    assert (PSNRMissing()(mixed, truth, m) < psnr(mixed, truth)).all()
    assert PSNRMissing()(x, truth, measured(truth, AveragePool(factor=2))).isnan().all()
