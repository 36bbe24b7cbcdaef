"""Diversity: what it adds to a step, by hand, and what it leaves alone."""

import importlib
from inspect import isabstract

import pytest
import torch
from helpers import ROOT, tiny_denoiser
from restoration_worlds import OneStream, correlated_pair

from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.mask import Mask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from diffusion.denoiser import Prediction
from restoration.base import Method, Restoration
from restoration.ddrm import DDRM
from restoration.diversity import Diversity, nearest_of_the_others
from restoration.posterior import PosteriorSampler, Problem

SHAPE = (1, 8, 8)
PRIOR = tiny_denoiser(SHAPE).requires_grad_(False)
BOX, POOL = BoxMask(size=4), AveragePool(factor=2)
#: Every posterior sampler on a task that it takes, and its options.
INNER = {
    "dps": (BOX, {"steps": 4}),
    "ddrm": (BOX, {"steps": 4}),
    "ddnm": (POOL, {"steps": 4}),
    "repaint": (BOX, {"steps": 4, "jump_length": 2, "jump_repeats": 2}),
    "pigdm": (POOL, {"steps": 4}),
    "diffpir": (BOX, {"steps": 4}),
    "daps": (BOX, {"steps": 3, "flow_steps": 2}),
    "score_ald": (BOX, {"steps": 4, "repeats": 2}),
    "sdedit": (BOX, {"steps": 4}),
    "level_map": (BOX, {"steps": 4}),
}
CLASSES = {"dps": "DPS", "ddrm": "DDRM", "ddnm": "DDNM", "repaint": "RePaint", "pigdm": "PiGDM", "diffpir": "DiffPIR"}
CLASSES |= {"daps": "DAPS", "score_ald": "ScoreALD", "sdedit": "SDEdit", "level_map": "LevelMap"}


def spec(name: str) -> dict:
    return {"class_path": f"restoration.{name}.{CLASSES[name]}", "init_args": INNER[name][1]}


def measured(degradation, sigma: float = 0.1, rows: int = 2) -> Measurement:
    x = RandomStreams(7).uniform("images", 0, 0, (3, *SHAPE))[:rows] * 1.8 - 0.9
    noise = GaussianNoise(sigma=sigma)
    return measure(x, degradation=degradation, noise=noise, index=list(range(rows)), random=RandomStreams(3))


def restored(method: Method, measurement: Measurement, num_samples: int = 3) -> Restoration:
    return method.restore(measurement, num_samples=num_samples, random=RandomStreams(5))


def test_no_posterior_sampler_is_left_out():
    for file in (ROOT / "restoration").glob("*.py"):
        found = vars(importlib.import_module(f"restoration.{file.stem}")).values()
        own = [c for c in found if isinstance(c, type) and issubclass(c, PosteriorSampler) and not isabstract(c)]
        for cls in own:
            assert cls.__module__.rpartition(".")[2] in INNER, cls


@pytest.mark.parametrize("name", INNER)
def test_of_strength_0_it_is_the_inner_method_to_the_bit_and_else_it_is_not(name):
    measurement = measured(INNER[name][0], sigma=0.0 if name == "repaint" else 0.1)
    inner = build(spec(name), Method, where="inner", prior=PRIOR)
    plain = restored(inner, measurement)
    still = restored(Diversity(prior=PRIOR, inner=spec(name), strength=0), measurement)
    assert torch.equal(still.samples, plain.samples) and still.cost == plain.cost and still.trace == plain.trace
    pushed = restored(Diversity(prior=PRIOR, inner=spec(name), strength=1), measurement).samples
    assert bool(pushed.isfinite().all()) and not torch.equal(pushed, plain.samples)


def test_the_push_by_hand():
    """Values 0, 1, 3 in the missing pixel of a pair of pixels: the neighbours are 1, 0, 1 and the pushes -1, 1, 2; of
    another image 0, 0, 0, which nothing moves.
    """
    operator = Mask(torch.tensor([[1.0, 0.0]]), channels=1)
    y = torch.zeros(2, 1, 1, 2)
    problem = Problem(
        Measurement(y=y, operator=operator, noise=GaussianNoise(sigma=0.0), index=(0, 1)), 3, RandomStreams(0)
    )
    x0 = torch.tensor([[9.0, 0.0], [5.0, 1.0], [7.0, 3.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]).view(6, 1, 1, 2)
    prior = correlated_pair()

    def pushed(**options) -> list[float]:
        return Diversity(prior=prior, strength=1.0, **options).push(problem, x0).flatten(1).tolist()

    assert pushed() == [[0, -1], [0, 1], [0, 2], [0, 0], [0, 0], [0, 0]]
    # The third is 2 = 255 grey levels from its nearest.
    assert pushed(clamp_255=200) == [[0, -1], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert pushed(where="image")[:3] == [[4, -1], [-4, 1], [2, 2]]
    inner = {"class_path": "restoration.ddrm.DDRM", "init_args": {"clip": False}}
    method = Diversity(prior=prior, inner=inner, strength=1.0)
    x = x0.double() + 1
    for sigma_next, moved in ((1.0, 1.0), (0.0, 0.0)):
        seen = method.around(problem, lambda x, sigma: Prediction(x0=x - 1, eps=x / sigma), 2.0, sigma_next)(x, 2.0)
        # The linear schedule is at sigma 1 between the times 258 and 259 of 1000.
        share = 0.2585 * moved
        by = (seen.x0 - x0).flatten(1)[:, 1].tolist()
        assert by == pytest.approx([-share, share, 2 * share, 0, 0, 0], abs=1e-3)
        if moved:
            torch.testing.assert_close(seen.x0 + 2 * seen.eps, x)


def test_nearest_of_the_others():
    x = torch.tensor([0.0, 4.0, 1.0, 7.0, 7.0, 9.0]).view(6, 1, 1, 1).expand(6, 1, 2, 2)
    place, distance = nearest_of_the_others(x, 3)
    assert place.tolist() == [2, 2, 0, 4, 3, 3] and distance.tolist() == [1, 3, 1, 0, 0, 2]
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 2, 2).expand(6, 1, 2, 2)
    assert nearest_of_the_others(x, 3, weight)[1].tolist() == [1, 3, 1, 0, 0, 2]
    assert nearest_of_the_others(x, 3, weight * 0)[1].tolist() == [0] * 6


@pytest.mark.parametrize("options", [{}, {"clamp_255": 200}, {"where": "image"}])
def test_a_sample_that_has_diverged_is_nobodys_neighbour(options):
    """The others keep away from each other as without it, or from nobody; nor does its gradient reach them."""
    problem = Problem(measured(BOX), 3, RandomStreams(0))
    x0 = RandomStreams(1).normal("x0", 0, 0, (6, *SHAPE)) / 4
    method = Diversity(prior=PRIOR, strength=1.0, **options)
    pair = method.push(Problem(measured(BOX), 2, RandomStreams(0)), x0[[0, 2, 3, 5]])
    assert float(pair[:2].abs().max()) > 0.1
    x0[1], x0[3], x0[4] = torch.nan, torch.inf, -torch.inf
    push = method.push(problem, x0.requires_grad_(True))
    torch.testing.assert_close(push[[0, 2]], pair[:2], atol=1e-6, rtol=0)
    assert not push[5].any()
    (x0 + push).square().sum().backward()
    assert x0.grad is not None and bool(x0.grad[[0, 2, 5]].isfinite().all())


@pytest.mark.parametrize("degradation", [BOX, POOL])
def test_only_what_is_not_measured_moves(degradation):
    """A P d = 0, for a mask and for averages of blocks."""
    problem = Problem(measured(degradation), 3, RandomStreams(0))
    x0 = RandomStreams(1).normal("x0", 0, 0, (6, *SHAPE))
    push = Diversity(prior=PRIOR, strength=1.0).push(problem, x0)
    assert float(push.abs().max()) > 0.5
    torch.testing.assert_close(problem.operator(push), torch.zeros_like(problem.y), atol=1e-5, rtol=0)


def test_samples_move_apart_and_known_pixels_stay():
    """Without noise DDNM sets the known pixels: they are those of y; in the hole distances grow with
    strength."""
    measurement, gaps = measured(BOX, sigma=0.0), []
    known = measurement.operator.mask.bool()
    for strength in (0.0, 0.5, 1.0):
        inner = {"class_path": "restoration.ddnm.DDNM", "init_args": {"steps": 10}}
        samples = restored(Diversity(prior=PRIOR, inner=inner, strength=strength), measurement).samples
        for k in range(3):
            torch.testing.assert_close(samples[:, k][known], measurement.y[known], atol=1e-6, rtol=0)
        gaps.append(float(torch.stack([(samples[:, a] - samples[:, b]).square().mean() for a, b in _PAIRS]).mean()))
    assert gaps[0] < 0.98 * gaps[1] and gaps[1] < 0.98 * gaps[2], gaps


_PAIRS = ((0, 1), (0, 2), (1, 2))


def test_a_clamp_stops_what_is_far_enough():
    """All samples are further apart than a thousandth of a grey level all the way, and none than 400."""
    measurement = measured(BOX)
    inner = spec("ddrm")
    plain = restored(Diversity(prior=PRIOR, inner=inner, strength=0), measurement).samples
    assert torch.equal(restored(Diversity(prior=PRIOR, inner=inner, clamp_255=1e-3), measurement).samples, plain)
    assert not torch.equal(restored(Diversity(prior=PRIOR, inner=inner, clamp_255=400), measurement).samples, plain)


def test_an_image_is_the_same_in_any_batch():
    method = Diversity(prior=PRIOR, inner=spec("ddrm"))
    both, one = restored(method, measured(BOX)).samples, restored(method, measured(BOX).pick([1])).samples
    torch.testing.assert_close(one, both[[1]], atol=1e-5, rtol=0)


def test_one_sample_is_the_inner_method_with_a_word():
    measurement = measured(BOX)
    with pytest.warns(UserWarning, match="num_samples of 2 or more"):
        alone = restored(Diversity(prior=PRIOR, inner=spec("ddrm")), measurement, 1).samples
    assert torch.equal(alone, restored(DDRM(prior=PRIOR, steps=4), measurement, 1).samples)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": -0.1}, "strength must be at least 0"),
        ({"clamp_255": 0}, "clamp_255 must be positive"),
        ({"clamp_255": float("inf")}, "clamp_255 must be positive and finite"),
        ({"where": "hole"}, "where must be"),
        ({"inner": "restoration.red_diff.REDDiff"}, "inner: .*not a usable PosteriorSampler"),
        ({"inner": "restoration.diversity.Diversity"}, "not a usable PosteriorSampler"),
        ({"inner": {"class_path": "restoration.ddrm.DDRM", "init_args": {"eta": 2}}}, "inner: eta"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises((UserError, ValueError), match=words):
        Diversity(prior=PRIOR, **options)


@pytest.mark.filterwarnings("ignore:y spans")
@pytest.mark.parametrize(("strength", "deviation", "distance"), [(0.6, 0.97, 0.690), (2, 1.22, 0.873)])
def test_on_two_pixels_it_spreads_as_an_independent_computation_says(strength, deviation, distance):
    """DDRM of 100 steps, sets of 5: the deviation of the pixel that is not measured, of the exact one of 0.602, and the
    mean distance of two samples.
    """
    sets = 1000
    measurement = Measurement(
        y=torch.tensor([[[[1.5, 0.0]]]], dtype=torch.float64).expand(sets, 1, 1, 2),
        operator=Mask(torch.tensor([[1.0, 0.0]]), channels=1),
        noise=GaussianNoise(sigma=0.1),
        index=tuple(range(sets)),
    )
    options = {"steps": 100, "clip": False, "spacing": "leading"}
    inner = {"class_path": "restoration.ddrm.DDRM", "init_args": options}
    method = Diversity(prior=correlated_pair(), inner=inner, strength=strength)
    samples = method.restore(measurement, num_samples=5, random=OneStream(1)).samples.flatten(2)
    pairs = torch.cdist(samples, samples).sum((1, 2)) / 20
    found = (float(samples[..., 1].std()) / 0.602, float(pairs.mean()))
    assert found == (pytest.approx(deviation, abs=0.03), pytest.approx(distance, abs=0.03)), found
