import pytest
import torch

from diffusion.levels import SPACINGS, below, down_from, karras_sigmas, spaced_sigmas, within
from diffusion.schedules import Cosine
from tests.diffusion.tools import gaussian

# Reference sheet 1.8, ten of a thousand training times.
TIMES = {
    "trailing": [999, 899, 799, 699, 599, 499, 399, 299, 199, 99],
    "leading": [900, 800, 700, 600, 500, 400, 300, 200, 100, 0],
    "linspace": [999, 888, 777, 666, 555, 444, 333, 222, 111, 0],
}


@pytest.mark.parametrize("spacing", TIMES)
def test_spacings(spacing):
    denoiser = gaussian()
    levels = spaced_sigmas(denoiser, 10, spacing)
    assert levels.dtype == torch.float64 and float(levels[-1]) == 0
    assert denoiser.schedule.time_of(levels[:-1]).tolist() == TIMES[spacing]


def test_karras():
    levels = karras_sigmas(18, 0.002, 80)
    assert levels.shape == (19,) and float(levels[-1]) == 0
    assert float(levels[0]) == pytest.approx(80, rel=1e-12) and float(levels[17]) == pytest.approx(0.002, rel=1e-12)
    # even in sigma^(1/7)
    torch.testing.assert_close(
        levels[:-1].pow(1 / 7).diff().diff(), torch.zeros(16, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert float(karras_sigmas(1, 0.002, 80)[0]) == pytest.approx(80)


def test_karras_of_a_denoiser_starts_at_80_at_most():
    cosine = gaussian(Cosine())
    levels = spaced_sigmas(cosine, 20, "karras")
    assert float(levels[0]) == pytest.approx(80) and float(levels[-2]) == pytest.approx(cosine.sigma_min)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 7, 333, 1000])
def test_every_list_falls_strictly_to_zero(spacing, steps):
    levels = spaced_sigmas(gaussian(), steps, spacing)
    assert len(levels) == steps + 1 and bool((levels.diff() < 0).all()) and float(levels[-1]) == 0
    if spacing != "karras":  # whole training times, so that a network is asked only what it was trained on
        time = gaussian().schedule.time_of(levels[:-1])
        assert torch.equal(time, time.round())
    if spacing == "leading":
        assert float(time[0]) == (steps - 1) * (1000 // steps)


def test_refusals():
    denoiser = gaussian()
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=f"1 .. 1000.*got {steps}"):
            spaced_sigmas(denoiser, steps)
    with pytest.raises(ValueError, match="at least 1"):
        spaced_sigmas(denoiser, 0, "karras")
    with pytest.raises(ValueError, match="trailing, leading"):
        spaced_sigmas(denoiser, 10, "quad")
    for low, high in ((0, 80), (1, 1), (1, float("inf"))):
        with pytest.raises(ValueError, match="sigma_min < sigma_max"):
            karras_sigmas(10, low, high)


def test_within_holds_both_ends_to_what_the_prior_knows():
    denoiser = gaussian()
    low, high = denoiser.sigma_min, denoiser.sigma_max
    assert within(denoiser, 1e6, 1e-6) == (high, low)
    assert within(denoiser, 2.0, 1.0) == (2.0, 1.0)
    for start, end in ((low / 2, low / 4), (2 * high, high), (1.0, 1.0)):
        with pytest.raises(ValueError, match=r"leave some of 0\.01 \.\. 157\.4 between them"):
            within(denoiser, start, end)


def test_below():
    levels = torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    assert below(levels, 3.0).tolist() == [3, 2, 1, 0]
    assert below(levels, 2.0).tolist() == [2, 1, 0]
    assert below(levels, 4.0).tolist() == [4, 2, 1, 0]
    assert below(levels, 0.5).tolist() == [0.5, 0]
    for start in (0.0, 4.1):
        with pytest.raises(ValueError, match="start must lie in"):
            below(levels, start)


def test_a_chain_from_anywhere_is_even_in_time():
    denoiser = gaussian()
    start = float(denoiser.level_at(torch.tensor([400.0], dtype=torch.float64)))
    levels = down_from(denoiser, start, 10)
    assert levels.shape == (11,) and float(levels[-1]) == 0 and float(levels[0]) == start
    torch.testing.assert_close(denoiser.schedule.time_of(levels[:-1]), torch.arange(400.0, 0, -40, dtype=torch.float64))
    assert down_from(denoiser, 0.123, 1).tolist() == [0.123, 0]
    between = down_from(denoiser, 0.123, 7)
    assert float(between[0]) == 0.123 and between.shape == (8,) and bool((between.diff() < 0).all())
    torch.testing.assert_close(
        down_from(denoiser, denoiser.sigma_max, 10), spaced_sigmas(denoiser, 10, "trailing"), rtol=0.02, atol=0
    )
    for start, steps in ((0.5, 0), (denoiser.sigma_max * 2, 5), (0.0, 5)):
        with pytest.raises(ValueError, match="steps must be at least 1 and start a level"):
            down_from(denoiser, start, steps)
