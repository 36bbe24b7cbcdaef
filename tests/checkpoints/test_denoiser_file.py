"""A denoiser named by its file is the denoiser in it; and it is a term of a deep image prior by config, through
train.py's module as through the method.
"""

from pathlib import Path

import pytest
import torch
from dip_worlds import fitted, tiny_pictures, tiny_prior
from helpers import tiny_denoiser, write_tiny_prior

from checkpoints.denoiser_file import DenoiserFile
from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from diffusion.denoiser import Denoiser
from restoration.base import Unsupported
from restoration.deep_image_prior.terms.base import Term
from restoration.deep_image_prior.terms.denoiser import DenoiserTerm
from restoration.dip_with_prior import DIPWithPrior

LEVELS = {"from_255": 60.0, "to_255": 30.0}


@pytest.fixture
def prior(tmp_path) -> Path:
    return write_tiny_prior(tmp_path / "prior.safetensors", (1, 16, 16))


def term(path: Path, **options: object) -> Term:
    """As a config gives it."""
    inner = {"class_path": "checkpoints.denoiser_file.DenoiserFile", "init_args": {"path": str(path)}}
    spec = {
        "class_path": "restoration.deep_image_prior.terms.denoiser.DenoiserTerm",
        "init_args": {"prior": inner, "weight": 0.5, **LEVELS, **options},
    }
    return build(spec, Term, where="terms")


def test_it_is_the_denoiser_of_the_file(prior):
    found, expected = DenoiserFile(path=str(prior)), tiny_denoiser((1, 16, 16))
    x, sigma = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0.3, 2.0])
    torch.testing.assert_close(found.predict(x, sigma).x0, expected.predict(x, sigma).x0)
    assert (found.data_shape, found.sigma_min, found.sigma_max) == (
        expected.data_shape,
        expected.sigma_min,
        expected.sigma_max,
    )
    assert not any(p.requires_grad for p in found.parameters()) and not found.training
    assert build(found.spec, Denoiser, where="prior").fingerprint == found.fingerprint
    with pytest.raises(UserError, match="there is no prior at"):
        DenoiserFile(path="nowhere.safetensors")


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_train_py_fits_with_a_prior_as_the_method_does(prior, precision, tmp_path):
    data, options = tiny_pictures(2), {"learning_rate": 0.01}
    module = tiny_prior(terms=[term(prior)], **options)
    fitted(tmp_path / "run", module, data, precision=precision)
    plain = tiny_prior(**options)
    fitted(tmp_path / "plain", plain, data, precision=precision)
    own = {k: v for k, v in module.method.changes.items() if k != "bf16"}
    own |= {"architecture": module.method.architecture, "stopping": module.method.stopping}
    method = DIPWithPrior(prior=tiny_denoiser((1, 16, 16)), weight=0.5, **LEVELS, **own)
    for (group, k), (other, _) in zip(module.pictures, plain.pictures, strict=True):
        expected = method.restore(data.measurement([group.rows[k]]), random=RandomStreams(0)).samples[0, 0]
        torch.testing.assert_close(group.fit.answer[k].float(), expected, rtol=0, atol=2e-3)
        assert not torch.allclose(group.fit.answer[k], other.fit.answer[k], atol=1e-2)  # the prior had something to say


def test_a_run_with_a_prior_goes_on_where_it_was(prior, tmp_path):
    """refresh: what the denoiser said last is part of the state."""
    whole, late = (tiny_prior(terms=[term(prior, refresh=4, add_noise=False)]) for _ in range(2))
    fitted(tmp_path / "whole", whole, tiny_pictures(1))
    fitted(
        tmp_path / "parts", tiny_prior(terms=[term(prior, refresh=4, add_noise=False)]), tiny_pictures(1), max_steps=10
    )
    fitted(tmp_path / "parts", late, tiny_pictures(1), ckpt=tmp_path / "parts/checkpoints/last.ckpt")
    assert torch.equal(whole.groups[0].fit.answer, late.groups[0].fit.answer)


def test_pictures_that_do_not_suit_the_prior(tmp_path):
    """Other channels are refused, another size too unless it is asked for: before the first iteration, in one
    sentence.
    """
    colour = term(write_tiny_prior(tmp_path / "colour.safetensors", (3, 16, 16)))
    with pytest.raises(UserError, match=r"the prior knows pictures of 3 channels, and these have 1"):
        fitted(tmp_path / "a", tiny_prior(terms=[colour]), tiny_pictures(1))
    small = write_tiny_prior(tmp_path / "small.safetensors", (1, 8, 8))
    with pytest.raises(UserError, match=r"trained on pictures of 8x8 pixels.*16x16.*any_size") as error:
        fitted(tmp_path / "b", tiny_prior(terms=[term(small)]), tiny_pictures(1))
    assert "\n" not in str(error.value)
    fitted(tmp_path / "c", tiny_prior(terms=[term(small, any_size=True)], iterations=2), tiny_pictures(1))
    # Methods with a prior are asked by restore.py and evaluate.py, which have options of their own for it.
    method = DIPWithPrior(prior=tiny_denoiser((1, 8, 8)), weight=0.5, **LEVELS)
    method.check(tiny_pictures(1).measurement([0]).operator, tiny_pictures(1).noise)
    with pytest.raises(Unsupported, match="channels"):
        DenoiserTerm(prior=tiny_denoiser((3, 16, 16)), weight=0.5, **LEVELS).check(
            tiny_pictures(1).measurement([0]).operator, tiny_pictures(1).noise
        )
