"""What every metric promises; a new file in metrics/ is tested without being named here."""

import inspect
import math
import re
from typing import Any

import docstring_parser
import numpy as np
import pytest
import torch
from metric_toys import SIZE, Quadrants, images, measured, worse
from torch import Tensor

from common.build import build, named_parameters
from degradations.average_pool import AveragePool
from degradations.base import Degradation
from degradations.identity import Identity
from degradations.random_mask import RandomMask
from inference.catalogue import catalogue
from metrics import published_networks
from metrics.base import DistributionMetric, InFeatures, Metric, MetricBase, Missing, SetMetric
from metrics.features import FeatureNetwork
from metrics.precision_of_samples import RealImages
from metrics.psnr_best import PSNRBest
from metrics.ssim import SSIM

CLASSES = catalogue("metrics", MetricBase)
CLASS_NAMES = {cls: name for name, cls in CLASSES.items()}

#: Options of classes that cannot be built without them, by name in the catalogue; all get `features` that take it.
REQUIRED: dict[str, dict[str, Any]] = {
    "coverage_of_classes": {"classes": [1, 3]},
    "ms_ssim": {"scales": 2},
    "pairwise_perceptual.PairwiseMSSSIM": {"scales": 2},
    "of_region.OfRegion": {"metric": SSIM()},
    "of_region.SamplesOfRegion": {"metric": PSNRBest()},
}

#: Another value of options that twice the default and two more is not one of.
OTHER = {"scales": 3, "threshold": 0.5, "share": 0.01}

#: Metrics of the pixels of a mask: NaN where there is none.
OF_MASKS = {
    "psnr_of_mask.PSNRMissing",
    "psnr_of_mask.PSNRMeasured",
    "of_region.OfRegion",
    "of_region.SamplesOfRegion",
}

SAMPLES = 4
DEGRADATIONS = [Identity(), RandomMask(removed=0.4), AveragePool(factor=2)]


@pytest.fixture(autouse=True)
def stand_ins_for_published_networks(monkeypatch, tmp_path):
    """What surrounds networks whose weights no test has: any file, and a network that takes a mean difference. The
    networks themselves are in test_published_networks.py.
    """
    distance, file = published_networks.PublishedDistance, tmp_path / "weights"
    torch.save({}, file)
    monkeypatch.setattr(distance, "_found", lambda self: file)
    for cls in distance.__subclasses__():
        monkeypatch.setattr(cls, "build", lambda self: torch.nn.Identity())
        monkeypatch.setattr(cls, "of", lambda self, network, x, y: (x.float() - y.float()).abs().mean() / 255)
    monkeypatch.setitem(published_networks.LPIPS_NETWORKS, "alex", (published_networks.ALEXNET, 8))


def task_of(cls: type[MetricBase]) -> Degradation:
    """A degradation with which the metric has a number."""
    return RandomMask(removed=0.4) if CLASS_NAMES[cls] in OF_MASKS else Identity()


class Real(RealImages):
    """Sixty toy images."""

    def count(self) -> int:
        return 60

    def features(self, network: FeatureNetwork, count: int) -> Tensor:
        return network.of(images(min(count, 60), seed=9)).features


def given(cls: type[MetricBase], network: FeatureNetwork | None = None) -> dict[str, Any]:
    """What an evaluation gives a metric beside its own options."""
    found: dict[str, Any] = {"features": network or Quadrants()} if issubclass(cls, InFeatures) else {}
    return found | ({"reference": Real()} if "reference" in named_parameters(cls) else {})


def make(cls: type[MetricBase], network: FeatureNetwork | None = None, **more: Any) -> MetricBase:
    return cls(**dict(REQUIRED.get(CLASS_NAMES[cls], {}), **more), **given(cls, network))


def of_kind(kind: type[MetricBase]) -> Any:
    """Parametrised by the classes of one kind."""
    found = {name: cls for name, cls in CLASSES.items() if issubclass(cls, kind)}
    return pytest.mark.parametrize("cls", found.values(), ids=found)


def numbers(metric: MetricBase, values: Tensor) -> dict[str, float]:
    """Of every column that has a best end: the number that a table would show of these values per image."""
    means = [np.asarray(v) for v in values.reshape(len(values), -1).mean(0).tolist()]
    return {
        c.name: c.best * float(means[0] if c.of_means is None else c.of_means(means))
        for c in metric.columns("name")
        if c.best
    }


def within_its_columns(metric: MetricBase, values: Tensor) -> None:
    """The number of every image, and of all, is one that its columns allow."""
    rows = values.reshape(len(values), -1)
    for row in (*rows, rows.mean(0)):
        means = [np.asarray(v) for v in row.tolist()]
        for c in metric.columns("name"):
            with np.errstate(divide="ignore"):
                value = float(means[0] if c.of_means is None else c.of_means(means))
            assert np.isnan(value) or c.lowest - 1e-9 <= value <= c.highest + 1e-9, (c.name, value)


def usable(metric: MetricBase, shape: tuple[int, int, int]) -> bool:
    try:
        metric.check(shape)
    except Missing as reason:
        assert str(reason) and not str(reason).endswith(".") and "\n" not in str(reason)
        return False
    return True


def shaped(metric: MetricBase, values: Tensor, count: int) -> None:
    parts = len(metric.part_names("name"))
    assert values.dtype == torch.float64
    assert tuple(values.shape) == ((count,) if parts == 1 else (count, parts))
    assert bool(torch.isfinite(values).all())


# ---------------------------------------------------------------- all three kinds


def test_the_catalogue_is_complete():
    known = {"psnr", "ssim", "mse", "rmse", "mae", "consistency", "psnr_mean", "pairwise_rmse", "calibration", "kid"}
    assert known | {"fid.FID", "fid.FIDWithoutBias", "inception_score"} <= set(CLASSES)
    kinds = [sum(issubclass(cls, kind) for kind in (Metric, SetMetric, DistributionMetric)) for cls in CLASSES.values()]
    assert set(kinds) == {1}, "a metric is of exactly one kind"
    assert {make(cls).kind() for cls in CLASSES.values()} == {"image", "samples", "set"}


@of_kind(MetricBase)
def test_it_says_what_it_shows(cls):
    metric = make(cls)
    assert isinstance(cls.label, str) and cls.label, "the class itself has a label, for tables in which it is missing"
    told = " ".join((inspect.getdoc(cls) or "").split())
    assert not re.search(r"reference \d", told), "sources are papers, not notes that readers do not have"
    if metric.higher_is_better is not None:
        assert re.search(r"is (better|worse)|\b[01] for equal|[Ss]mallest", told), "which end is best"
    assert isinstance(metric.unit, str) and metric.higher_is_better in (True, False, None)
    columns = metric.columns("given")
    assert len({c.name for c in columns}) == len(columns) and any(c.shown for c in columns)
    assert all(c.label and c.factor > 0 for c in columns)
    assert len(set(metric.part_names("given"))) == len(metric.part_names("given"))
    if isinstance(metric, DistributionMetric):
        assert [c.name for c in columns] == ["given"] and metric.least >= 4


@of_kind(MetricBase)
def test_every_option_has_a_line_of_help(cls):
    parsed = docstring_parser.parse(inspect.getdoc(cls), style=docstring_parser.DocstringStyle.GOOGLE)
    assert parsed.short_description
    told = {p.arg_name for p in parsed.params if p.description}
    assert not set(named_parameters(cls)) - told, "a line under Args: for each option"


@of_kind(MetricBase)
def test_the_fingerprint_knows_class_options_and_weights(cls):
    metric = make(cls)
    assert metric.fingerprint() == make(cls).fingerprint() and len(metric.fingerprint()) == 16
    for name, parameter in named_parameters(cls).items():
        if isinstance(parameter.default, (bool, int, float)):
            changed = not parameter.default if isinstance(parameter.default, bool) else 2 * parameter.default + 2
            changed = OTHER.get(name, changed)
            assert make(cls, **{name: changed}).fingerprint() != metric.fingerprint(), name
    if isinstance(metric, InFeatures):
        assert make(cls, Quadrants("other weights")).fingerprint() != metric.fingerprint()
    others = [make(other).fingerprint() for other in CLASSES.values() if other is not cls]
    assert metric.fingerprint() not in others


@of_kind(MetricBase)
def test_it_is_built_from_its_description_and_moves(cls):
    metric = make(cls)
    network = metric.features if isinstance(metric, InFeatures) else None
    again = build(metric.spec, MetricBase, where="metrics.name", **given(cls, network))
    assert type(again) is cls and again.fingerprint() == metric.fingerprint()
    assert metric.to(torch.device("cpu")) is metric
    assert usable(metric, (1, SIZE, SIZE)) and usable(metric, (3, SIZE, 2 * SIZE))
    usable(metric, (1, 2, 2))


# ---------------------------------------------------------------- of one image


@of_kind(Metric)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=lambda d: type(d).__name__)
def test_one_number_per_image(cls, channels, degradation):
    metric, truth = make(cls), images(channels=channels)
    pixels, m = worse(truth, 0.3), measured(truth, degradation)
    kept, state = pixels.clone(), torch.random.get_rng_state()
    whole = metric(pixels, truth, m)
    if CLASS_NAMES[cls] in OF_MASKS and not isinstance(degradation, RandomMask):
        assert whole.shape == (5,) and whole.isnan().all()
        return
    shaped(metric, whole, 5)
    assert torch.equal(pixels, kept) and torch.equal(torch.random.get_rng_state(), state)
    order = [3, 0, 4]
    torch.testing.assert_close(metric(pixels[order], truth[order], m.pick(order)), whole[order], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(metric(pixels[2:3], truth[2:3], m.pick([2])), whole[2:3], rtol=1e-12, atol=1e-15)


@of_kind(Metric)
def test_it_takes_8_bit_pixels_only(cls):
    truth = images()
    with pytest.raises(TypeError, match=r"uint8|8-bit"):
        make(cls)(truth.float(), truth.float(), measured(truth))


@of_kind(Metric)
def test_the_truth_is_best_and_a_worse_image_is_worse(cls):
    metric, truth = make(cls), images()
    m = measured(truth, task_of(cls))
    best, near, far = (numbers(metric, metric(x, truth, m)) for x in (truth, worse(truth, 0.1), worse(truth, 0.5)))
    for name in best:
        assert best[name] > near[name] > far[name], name


@of_kind(Metric)
def test_an_image_has_a_number_that_its_columns_allow(cls):
    metric, truth = make(cls), images()
    m = measured(truth, task_of(cls))
    for pixels in (truth, worse(truth, 0.2), 255 - truth, torch.zeros_like(truth)):
        within_its_columns(metric, metric(pixels, truth, m))


@of_kind(Metric)
def test_what_check_allows_has_a_number(cls):
    for shape in ((1, 1, 1), (1, 5, 40), (3, 11, 11), (1, 10, 10), (4, 12, 12)):
        metric = make(cls)
        if usable(metric, shape) and CLASS_NAMES[cls] not in OF_MASKS:  # one pixel is not two kinds of them
            truth = torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
            shaped(metric, metric(255 - truth, truth, measured(truth)), 2)


# ---------------------------------------------------------------- of several samples of one measurement


def samples_of(truth: Tensor, amount: float, count: int = SAMPLES) -> Tensor:
    return torch.stack([worse(truth, amount, seed) for seed in range(1, count + 1)], 1)


@of_kind(SetMetric)
@pytest.mark.parametrize("channels", [1, 3])
def test_one_number_per_measurement(cls, channels):
    metric, truth = make(cls), images(channels=channels)
    samples, m = samples_of(truth, 0.2), measured(truth, task_of(cls))
    given = m if metric.needs_measurement else None
    state = torch.random.get_rng_state()
    whole = metric(samples, truth, given)
    shaped(metric, whole, 5)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(metric(samples[:, [2, 0, 3, 1]], truth, given), whole, rtol=1e-10, atol=1e-14)
    order = [3, 0]
    alone = metric(samples[order], truth[order], m.pick(order) if metric.needs_measurement else None)
    torch.testing.assert_close(alone, whole[order], rtol=1e-10, atol=1e-14)


@of_kind(SetMetric)
def test_it_needs_two_samples_of_8_bits(cls):
    metric, truth = make(cls), images()
    m = measured(truth)
    with pytest.raises(ValueError, match="at least 2"):
        metric(truth[:, None], truth, m)
    with pytest.raises(TypeError, match=r"uint8|8-bit"):
        metric(samples_of(truth, 0.2).float(), truth.float(), m)


@of_kind(SetMetric)
def test_samples_have_a_number_that_its_columns_allow(cls):
    metric, truth = make(cls), images()
    m = measured(truth, task_of(cls))
    for amount in (0.05, 0.3, 1.0):
        within_its_columns(metric, metric(samples_of(truth, amount), truth, m))
    spread = torch.stack([truth, 255 - truth], 1)
    within_its_columns(metric, metric(spread, truth, m))


@of_kind(SetMetric)
def test_samples_at_the_truth_are_best(cls):
    metric, truth = make(cls), images()
    m = measured(truth, task_of(cls))
    amounts = (0.0, 0.1, 0.5)
    best, near, far = (numbers(metric, metric(samples_of(truth, a), truth, m)) for a in amounts)
    for name in best:
        assert best[name] > near[name] > far[name], name


# ---------------------------------------------------------------- of a set against another


@of_kind(DistributionMetric)
def test_halves_merge_to_the_whole_exactly(cls):
    """Any split into batches and shards, in any order, is the same number to the last bit."""
    metric = make(cls)
    count = max(40, metric.least + 8)
    pixels, reference = worse(images(count), 0.2), metric.features.of(images(count, seed=7))
    whole = metric.update(None, range(count), pixels)
    expected = metric.compute(whole, reference)
    shards = [list(range(k, count, 3)) for k in range(3)]
    states = []
    for shard in shards:
        state = None
        for part in (shard[5:], shard[:5]):
            state = metric.update(state, part, pixels[part])
        states.append(state)
    for order in ([0, 1, 2], [2, 0, 1]):
        merged = metric.merge([states[k] for k in order])
        assert torch.equal(merged.index, whole.index) and torch.equal(merged.features.features, whole.features.features)
        found = metric.compute(merged, reference)
        assert (found.value, found.low, found.high) == pytest.approx(
            (expected.value, expected.low, expected.high), rel=0, abs=0, nan_ok=True
        )
    with pytest.raises(ValueError, match=r"comes twice"):
        metric.merge([states[0], metric.update(None, [shards[0][1]], pixels[:1])])


@of_kind(DistributionMetric)
@pytest.mark.parametrize("paired", [False, True])
def test_an_equal_set_is_best_and_a_worse_one_is_worse(cls, paired):
    metric = make(cls)
    count = max(60, metric.least + 8)
    truth = images(count)
    reference = metric.features.of(truth)
    found = []
    for amount in (0.0, 0.3, 0.8):
        try:
            found.append(metric.compute(metric.features.of(worse(truth, amount)), reference, paired=paired))
        except Missing as reason:
            assert paired and str(reason), "images against a reference always have a number"
            return
    for estimate in found:
        assert math.isfinite(estimate.value)
        assert estimate.low <= max(estimate.value, metric.lowest) <= estimate.high or not metric.interval
        assert not metric.interval or estimate.low >= metric.lowest
    sign = metric.columns("name")[0].best
    if sign:
        best, near, far = (sign * estimate.value for estimate in found)
        assert best > near and (near > far or near == far == 0)  # a share that is 0 cannot fall


@of_kind(DistributionMetric)
def test_few_images_have_a_number_and_the_reason_why_there_is_no_interval(cls):
    """5 images gave [-21, 27]."""
    metric = make(cls)
    for count in {metric.least, metric.least_for_interval - 1, metric.least_for_interval}:
        if count < metric.least:
            continue
        features = metric.features.of(images(count))
        found, reason = metric.compute(features, metric.features.of(images(60))), metric.without_interval(count)
        assert math.isfinite(found.value)
        few = bool(metric.interval) and count < metric.least_for_interval
        assert bool(reason) == few
        assert math.isnan(found.low) == math.isnan(found.high) == (few or not metric.interval)
        assert not few or (f"of {count} images" in reason and f"at least {metric.least_for_interval}" in reason)
        assert not few or not found.left_out  # nor has a difference


@of_kind(DistributionMetric)
def test_too_few_images_are_a_reason(cls):
    metric = make(cls)
    state = metric.update(None, range(metric.least - 1), images(metric.least - 1))
    with pytest.raises(Missing, match=rf"at least {metric.least} images, there are {metric.least - 1}"):
        metric.compute(state, state.features)
    more = metric.update(state, [metric.least + 5], images(1))
    assert math.isfinite(metric.compute(more, metric.features.of(images(60, seed=3))).value)


@of_kind(InFeatures)
def test_the_network_decides_which_images(cls):
    network = Quadrants()
    make(cls, network).check((3, 9, 7))
    assert network.shapes == [(3, 9, 7)]
