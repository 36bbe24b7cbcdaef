"""Pixels that the fit does not see."""

import pytest
import torch
from stopping_worlds import at, follow, noisy, pictures

from common.random_streams import RandomStreams
from degradations.mask import Mask
from restoration.base import Unsupported
from restoration.stopping.held_out import HeldOutPixels


def test_whole_pixels_are_held_out_and_judged():
    """Weight 0 on a tenth of the pixels, in all channels; the signal is the error to y there alone."""
    x = pictures(1, 40, 3)
    measurement = noisy(2, x=x)
    watch = HeldOutPixels(fraction=0.1).watch(measurement, random=RandomStreams(0), iterations=50)
    weight = watch.weight.expand(2, 3, 40, 40)
    assert set(weight.unique().tolist()) == {0.0, 1.0} and (weight == weight[:, :1]).all()
    assert 0.07 < float(1 - weight.mean()) < 0.13 and not torch.equal(weight[0], weight[1])
    f = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    watch.update(1, f, f)
    expected = [((f[k] - measurement.y[k]).square() / 4)[weight[k] == 0].mean() for k in range(2)]
    assert torch.allclose(watch.values["held_out_error"], torch.stack(expected))


def test_what_is_held_out_is_not_fitted():
    measurement = noisy(1)
    random = RandomStreams(0)
    other = noisy(1)
    held = HeldOutPixels().watch(measurement, random=random, iterations=9).weight.expand_as(measurement.y) == 0
    other.y[held] += 0.3
    assert torch.equal(
        follow(HeldOutPixels(), measurement, iterations=9).outputs[-1],
        follow(HeldOutPixels(), other, iterations=9).outputs[-1],
    )


def test_only_measured_pixels_are_held_out_and_at_least_one():
    mask = torch.zeros(16, 16)
    mask[4:6, 4:6] = 1
    measurement = noisy(20, operator=Mask(mask, channels=1))
    watch = HeldOutPixels(fraction=0.1).watch(measurement, random=RandomStreams(0), iterations=9)
    held = (1 - watch.weight).expand_as(measurement.y).flatten(1)
    assert (held.sum(1) >= 1).all() and not (held * (1 - mask.flatten())).any()


def test_the_second_pass_fits_all_pixels():
    measurement = noisy(1)
    found = follow(HeldOutPixels(second_pass=True, patience=20, smooth=5, kappa=1.1), measurement, iterations=250)
    (begun,) = at([v.restart for v in found.verdicts])
    assert bool((found.watch.weight == 1).all()) and torch.equal(found.watch.y, measurement.y)
    best = int(found.watch.best[0, 0])
    assert int(found.stopped_at) == begun + round(1.1 * best) == int(found.kept_at)


@pytest.mark.parametrize("fraction", [0.0, 0.51, 1.0])
def test_the_fraction_is_checked(fraction):
    with pytest.raises(ValueError, match="fraction"):
        HeldOutPixels(fraction=fraction)


@pytest.mark.parametrize("known", [2, 3, 5])
def test_something_is_left_to_fit(known):
    """Of a few measured pixels at least one is held out and at least one is not."""
    mask = torch.zeros(16, 16)
    mask[3, :known] = 1
    measurement = noisy(40, operator=Mask(mask, channels=1))
    watch = HeldOutPixels(fraction=0.5).watch(measurement, random=RandomStreams(0), iterations=9)
    fitted = (watch.weight * mask).flatten(1).sum(1)
    assert bool(((fitted >= 1) & (fitted <= known - 1)).all())


def test_a_single_measured_pixel_is_refused():
    mask = torch.zeros(16, 16)
    mask[3, 3] = 1
    with pytest.raises(Unsupported, match="at least two"):
        HeldOutPixels().check(Mask(mask, channels=1), noisy(1).noise)
