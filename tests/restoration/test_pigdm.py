"""The two weights of PiGDM's term where all pixels go together: the paper's overshoots, that of the code is bounded."""

import pytest
import torch

from common.random_streams import RandomStreams
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from diffusion.closed_form import GaussianDenoiser
from diffusion.samplers.base import predictor
from restoration.pigdm import PiGDM
from restoration.posterior import Problem

SIDE, SIGMA = 8, 10.0
#: A common brightness of deviation 0.5, and a little of each pixel's own.
PRIOR = GaussianDenoiser(
    mean=0.0, covariance=0.25 * torch.ones(SIDE**2, SIDE**2) + 0.01 * torch.eye(SIDE**2), data_shape=(1, SIDE, SIDE)
)


def problem() -> Problem:
    seen = torch.ones(SIDE, SIDE)
    seen[:, SIDE // 2 :] = 0
    y = 0.5 * seen.expand(1, 1, SIDE, SIDE)
    m = Measurement(y=y, operator=Mask(seen, channels=1), noise=GaussianNoise(sigma=0.05), index=(0,))
    return Problem(m, 1, RandomStreams(0))


def estimate(rule) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x0', eps' and the eps of the prior, at a level where it knows nothing yet of x."""
    x = SIGMA * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    method, predict = PiGDM(prior=PRIOR, rule=rule, clip=False), predictor(PRIOR, clip=False)
    found = method.conditional(problem(), predict, x, SIGMA)
    return found.x0, found.eps, predict(x, SIGMA).eps


def test_the_papers_weight_overshoots_where_pixels_go_together_and_the_codes_does_not():
    """Half of the pixels say 0.5, and so do the others by the prior: 0.5 is right everywhere."""
    assert float(estimate("score")[0].mean()) > 2.0
    assert 0.0 < float(estimate("code")[0].mean()) < 0.6


def test_the_code_leaves_eps_as_it_is_and_both_weights_differ_by_their_quotient():
    plain = predictor(PRIOR, clip=False)(
        SIGMA * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), SIGMA
    ).x0
    (score, moved, _), (code, eps, before) = estimate("score"), estimate("code")
    torch.testing.assert_close(eps, before)
    assert not torch.allclose(moved, before)
    torch.testing.assert_close((score - plain) / (1 + SIGMA**2), code - plain, rtol=1e-4, atol=1e-6)


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="rule must be 'score' or 'code', got 'none'"):
        PiGDM(prior=PRIOR, rule="none")  # pyright: ignore[reportArgumentType]
