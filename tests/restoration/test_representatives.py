"""Representatives: what is drawn, what is kept of it, and what that costs."""

import pytest
import torch
from helpers import tiny_denoiser
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.box_mask import BoxMask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from metrics.features import FeatureNetwork, Features
from restoration.base import Cost, Unsupported
from restoration.ddrm import DDRM
from restoration.representatives import Representatives

SHAPE = (1, 8, 8)
PRIOR = tiny_denoiser(SHAPE).requires_grad_(False)
INNER = {"class_path": "restoration.ddrm.DDRM", "init_args": {"steps": 3}}


class Corner(FeatureNetwork):
    """The pixel in the corner, which the mask leaves as it is, times 1000."""

    name, fingerprint, dimension = "corner", "0", 1

    def check(self, shape: tuple[int, int, int]) -> None:
        if shape != SHAPE:
            raise UserError(f"corner knows images of {SHAPE}, these are {shape}")

    def to(self, device: torch.device) -> "Corner":
        return self

    def of(self, images: Tensor) -> Features:
        return Features(images[:, :, 3, 3].float())


def measured(rows: int = 3) -> Measurement:
    x = RandomStreams(7).uniform("images", 0, 0, (3, *SHAPE))[:rows] * 1.8 - 0.9
    noise = GaussianNoise(sigma=0.1)
    return measure(x, degradation=BoxMask(size=4), noise=noise, index=list(range(rows)), random=RandomStreams(3))


@pytest.mark.parametrize("rule", ["kmeans", "uniform", "farthest"])
@pytest.mark.parametrize("features", [None, Corner()])
def test_what_is_kept_was_drawn(rule, features):
    """Each kept sample is one of the K N that the inner method draws, none twice, in their order."""
    method = Representatives(prior=PRIOR, inner=INNER, draws=4, rule=rule, features=features)
    found = method.restore(measured(), num_samples=2, random=RandomStreams(5))
    assert found.samples.shape == (3, 2, *SHAPE) and found.cost == method.calls() == Cost(nfe=12)
    drawn = DDRM(prior=PRIOR, steps=3).restore(measured(), num_samples=8, random=RandomStreams(5)).samples
    for image, all_of_it in zip(found.samples, drawn, strict=True):
        gaps = (image[:, None] - all_of_it[None]).abs().flatten(2).amax(2)
        assert float(gaps.amin(1).max()) < 1e-4
        assert gaps.argmin(1).tolist() == sorted(set(gaps.argmin(1).tolist()))


def test_farthest_points_lie_farther_apart_than_plain_samples():
    spread = {}
    for draws, method in (
        (1, DDRM(prior=PRIOR, steps=3)),
        (10, Representatives(prior=PRIOR, inner=INNER, draws=10, rule="farthest")),
    ):
        samples = method.restore(measured(), num_samples=3, random=RandomStreams(5)).samples.flatten(2)
        spread[draws] = float(torch.cdist(samples, samples).sum())
    assert spread[10] > 1.05 * spread[1]


def test_an_image_is_the_same_in_any_batch():
    method = Representatives(prior=PRIOR, inner=INNER, draws=4, rule="kmeans")
    whole = method.restore(measured(), num_samples=2, random=RandomStreams(5)).samples
    one = method.restore(measured().pick([1]), num_samples=2, random=RandomStreams(5)).samples
    torch.testing.assert_close(one, whole[[1]], atol=1e-4, rtol=0)


@pytest.mark.parametrize("features", [None, Corner()])
@pytest.mark.parametrize("kept", [1, 2])
def test_a_sample_that_diverged_is_kept(features, kept, monkeypatch):
    """The evaluation counts it, where a choice among the others would hide it."""
    method = Representatives(prior=PRIOR, inner=INNER, draws=2, features=features)
    draw = method.inner.restore

    def with_nan(*arguments, **options):
        found = draw(*arguments, **options)
        found.samples[0, 1, 0, 0, 0] = torch.nan
        return found

    monkeypatch.setattr(method.inner, "restore", with_nan)
    samples = method.restore(measured(2), num_samples=kept, random=RandomStreams(5)).samples
    assert samples.shape[1] == kept and samples.isnan().flatten(1).sum(1).tolist() == [1, 1]


def test_where_nothing_is_missing_any_are_kept():
    x = torch.zeros(1, 1, 8, 8)
    noise, random = GaussianNoise(sigma=0.1), RandomStreams(3)
    whole = measure(x, degradation=RandomMask(removed=0), noise=noise, index=[0], random=random)
    for rule in ("kmeans", "uniform", "farthest"):
        method = Representatives(prior=PRIOR, inner=INNER, draws=2, rule=rule)
        assert method.restore(whole, num_samples=2, random=RandomStreams(5)).samples.shape == (1, 2, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 1}, "draws must be at least 2"),
        ({"rule": "middle"}, "rule must be one of kmeans, uniform, farthest"),
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"inner": "restoration.pseudo_inverse.PseudoInverse"}, "draws nothing"),
        ({"inner": "restoration.ddrm.DDR"}, "did you mean 'DDRM'"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises((UserError, ValueError), match=words):
        Representatives(prior=PRIOR, **options)


def test_a_network_for_other_images_is_refused_before_anything_is_drawn():
    other = Representatives(prior=tiny_denoiser((1, 4, 4)), inner=INNER, features=Corner())
    x = torch.zeros(1, 1, 4, 4)
    noise = GaussianNoise(sigma=0.1)
    small = measure(x, degradation=BoxMask(size=2), noise=noise, index=[0], random=RandomStreams(3))
    with pytest.raises(Unsupported, match="corner knows images"):
        other.restore(small, num_samples=2, random=RandomStreams(5))
