"""The residual's place in a diffusion schedule."""

import pytest
import torch
from stopping_worlds import measured, pictures, run, same_picture

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.identity import Identity
from degradations.noise import GaussianNoise
from degradations.poisson_noise import PoissonNoise
from degradations.random_mask import RandomMask
from diffusion.schedules import Cosine, Linear
from restoration.base import Unsupported
from restoration.stopping.matched_level import MatchedLevel, haar_level
from restoration.stopping.morozov import Morozov


@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Linear(steps=250)])
@pytest.mark.parametrize(
    ("margin", "degradation"),
    [(0.0, None), (0.004, None), (0.004, RandomMask(removed=0.4)), (0.004, AveragePool(factor=2))],
)
def test_it_is_morozovs_rule_with_the_schedules_tau(schedule, margin, degradation):
    """tau = sigma at the shifted time over sigma, whatever is measured."""
    m = measured(pictures(2), sigma_255=40, degradation=degradation)
    sigma = torch.tensor([m.sigma], dtype=torch.float64)
    shifted = schedule.sigma_of(schedule.time_of(sigma) - margin * len(schedule))
    tau = float(shifted / sigma)
    assert tau == pytest.approx(1) if margin == 0 else 0.8 < tau < 0.999
    ours = [
        (v.improved.tolist(), v.stop.tolist())
        for _, v, _ in run(MatchedLevel(schedule=schedule, margin=margin), m, iterations=400)
    ]
    theirs = [(v.improved.tolist(), v.stop.tolist()) for _, v, _ in run(Morozov(tau=tau), m, iterations=400)]
    assert ours == theirs
    assert ours[-1][1] == [True, True] and ours[2][1] == [False, False]


def test_the_times_are_the_schedules():
    m = measured(pictures(2), sigma_255=25)
    watch = MatchedLevel().watch(m, random=RandomStreams(0), iterations=10)
    for time in (3, 100, 700):
        level = float(Linear().sigmas[time])
        f = m.y + level  # a residual of that rms
        watch.update(1, f, f)
        torch.testing.assert_close(watch.values["time"], torch.full((2,), float(time), dtype=torch.float64))
        torch.testing.assert_close(watch.values["residual_level"], torch.full((2,), level / 2, dtype=torch.float64))


def test_the_robust_level_is_sigma_of_white_noise_and_does_not_see_smooth_structure():
    m = same_picture(200, sigma_255=25)
    noise = m.y - m.truth
    # The median of 64 values has a bias of the order of 1 / 64.
    assert float(haar_level(noise).mean()) == pytest.approx(25 / 127.5, rel=0.03)
    ramp = torch.linspace(-1, 1, 16, dtype=torch.float64).view(1, 1, 16, 1) + torch.linspace(
        -1, 1, 16, dtype=torch.float64
    )
    torch.testing.assert_close(haar_level(noise + ramp), haar_level(noise))
    torch.testing.assert_close(haar_level(noise[..., :15, :13]), haar_level(noise[..., :14, :12]))


def test_robust_does_not_wait_for_structure():
    """Structure in the residual keeps its rms high and hardly enters its Haar band."""
    m = measured(pictures(1), sigma_255=25)
    offset = m.truth + 0.5
    for robust, stops in ((False, False), (True, True)):
        watch = MatchedLevel(robust=robust, margin=0.0, sigma_255=40).watch(m, random=RandomStreams(0), iterations=10)
        assert bool(watch.update(1, offset, offset).stop[0]) == stops


def test_noise_below_the_schedule_stops_at_its_first_entry():
    m = measured(pictures(1), sigma_255=0.6)
    watch = MatchedLevel().watch(m, random=RandomStreams(0), iterations=10)
    for residual, stops in ((0.02, False), (0.009, True)):
        assert bool(watch.update(1, m.y + residual, m.y + residual).stop[0]) == stops


def test_refusals():
    noise = GaussianNoise(sigma_255=5)
    mask = RandomMask(removed=0.5).operator_for((1, 16, 16), [0], RandomStreams(0))
    MatchedLevel().check(mask, noise)
    with pytest.raises(Unsupported, match="robust"):
        MatchedLevel(robust=True).check(mask, noise)
    whole = Identity().bind({}, (1, 16, 16))
    MatchedLevel().check(whole, PoissonNoise(scale=5))
    with pytest.raises(Unsupported, match=r"PoissonNoise\(.*is not white: set robust to false"):
        MatchedLevel(robust=True).check(whole, PoissonNoise(scale=5))
    with pytest.raises(Unsupported, match="sigma"):
        MatchedLevel().check(Identity().bind({}, (1, 4, 4)), GaussianNoise(sigma_255=0))
    for wrong in ({"margin": -0.1}, {"margin": 1.0}, {"sigma_255": 0.0}):
        with pytest.raises(ValueError):
            MatchedLevel(**wrong)
