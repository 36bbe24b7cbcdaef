"""DAPS's variance of x0 about its estimate: pixels of which y says nothing keep the prior's spread, or do not."""

import pytest
import torch
from restoration_worlds import OneStream

from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from diffusion.closed_form import GaussianDenoiser
from restoration.daps import DAPS

SIDE, DEVIATION = 8, 0.5
PRIOR = GaussianDenoiser(mean=0.0, covariance=DEVIATION**2, data_shape=(1, SIDE, SIDE))


def unseen_spread(method: DAPS) -> float:
    """Standard deviation of the pixels of which nothing was measured, as a share of the prior's."""
    seen = torch.ones(SIDE, SIDE)
    seen[:, SIDE // 2 :] = 0
    m = Measurement(
        y=torch.zeros(1, 1, SIDE, SIDE), operator=Mask(seen, channels=1), noise=GaussianNoise(sigma=0.05), index=(0,)
    )
    samples = method.restore(m, num_samples=400, random=OneStream(0)).samples[0]
    return float(samples[..., SIDE // 2 :].std()) / DEVIATION


def test_the_denoisers_own_spread_is_right_where_nothing_was_measured():
    """White data and one call a level: J is a multiple of one and m is E[x0 | x], so that the rule is exact; sigma^2 in
    place of sigma^2 J, or the end of the flow in place of the mean, is too much.
    """
    options = {"prior": PRIOR, "steps": 40, "sigma_end": 0.02, "clip": False}
    assert unseen_spread(DAPS(spread="denoiser", flow_steps=1, **options)) == pytest.approx(1.0, abs=0.05)
    assert unseen_spread(DAPS(flow_steps=1, **options)) > 1.07
    assert unseen_spread(DAPS(spread="denoiser", **options)) > 1.15


def test_the_derivative_is_one_call_more_of_each_level():
    assert DAPS(prior=PRIOR, steps=10).calls().nfe == 50
    assert DAPS(prior=PRIOR, steps=10, spread="denoiser").calls().nfe == 60


def test_an_unknown_spread_is_named():
    with pytest.raises(ValueError, match="spread must be 'level' or 'denoiser', got 'none'"):
        DAPS(prior=PRIOR, spread="none")  # pyright: ignore[reportArgumentType]
