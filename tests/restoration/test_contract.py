"""What every method promises: shapes, rows that depend on their own (image, sample) only, no truth, no global
randomness, a cost that is right.
"""

import pytest
import torch
from helpers import tiny_denoiser

from common.build import build
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.base import Degradation
from degradations.bicubic import Bicubic
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularGaussianBlur
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.reflecting_blur import ReflectingGaussianBlur
from inference.catalogue import catalogue
from networks.untrained.skip import SkipArchitecture
from restoration.base import Method
from restoration.dip import DIP
from restoration.dps import DPS
from restoration.pseudo_inverse import PseudoInverse
from restoration.sdedit import SDEdit
from restoration.total_variation import TotalVariation

DEGRADATIONS = {
    "identity": Identity(),
    "box": BoxMask(size=4),
    "pool": AveragePool(factor=2),
    "bicubic": Bicubic(factor=2),
    "circular": CircularGaussianBlur(std=0.6),
    "reflecting": ReflectingGaussianBlur(std=0.6),
    "grey": Grey(),
}
METHODS = ("pseudo_inverse", "total_variation", "sdedit", "dps", "dip")


def method_named(name: str) -> Method:
    prior = tiny_denoiser((3, 8, 8)).requires_grad_(False)
    return {
        "pseudo_inverse": lambda: PseudoInverse(),
        "total_variation": lambda: TotalVariation(iterations=30),
        "sdedit": lambda: SDEdit(prior=prior, start=0.5, steps=6, repeats=2),
        "dps": lambda: DPS(prior=prior, steps=4),
        "dip": lambda: DIP(architecture=SkipArchitecture(preset="small", channels=[4], inputs=2), iterations=5),
    }[name]()


def images(count: int = 3) -> torch.Tensor:
    return RandomStreams(7).uniform("images", 0, 0, (count, 3, 8, 8)) * 2 - 1


def measured(degradation: Degradation, rows: list[int], x: torch.Tensor) -> Measurement:
    return measure(
        x[rows],
        degradation=degradation,
        noise=GaussianNoise(sigma=0.1),
        index=[10 + r for r in rows],
        random=RandomStreams(3),
    )


def test_the_files_are_the_list_of_methods():
    assert set(METHODS) <= set(catalogue("restoration", Method))


@pytest.mark.parametrize("degradation", DEGRADATIONS)
@pytest.mark.parametrize("name", METHODS)
def test_a_batch_equals_its_images_one_by_one(name, degradation):
    method, x = method_named(name), images()
    whole = method.restore(
        measured(DEGRADATIONS[degradation], [0, 1, 2], x), num_samples=2, random=RandomStreams(5)
    ).samples
    samples = 1 if method.deterministic else 2
    assert whole.shape == (3, samples, 3, 8, 8) and whole.dtype == torch.float32 and torch.isfinite(whole).all()
    for row in (2, 0):
        one = method.restore(
            measured(DEGRADATIONS[degradation], [row], x), num_samples=2, random=RandomStreams(5)
        ).samples
        # Convolutions of another batch size round differently: float32 noise of a few steps.
        assert torch.allclose(one[0], whole[row], atol=2e-4), float((one[0] - whole[row]).abs().max())


@pytest.mark.parametrize("name", METHODS)
def test_more_samples_begin_with_fewer(name):
    method, measurement = method_named(name), measured(DEGRADATIONS["box"], [0, 1], images())
    few = method.restore(measurement, num_samples=1, random=RandomStreams(5)).samples
    many = method.restore(measurement, num_samples=3, random=RandomStreams(5)).samples
    assert torch.allclose(many[:, :1], few, atol=2e-4)
    if not method.deterministic:
        assert many.shape[1] == 3
        assert (many[:, 0] - many[:, 1]).abs().mean() > 1e-3
        other = method.restore(measurement, num_samples=1, random=RandomStreams(6)).samples
        assert (other - few).abs().mean() > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_no_truth_and_no_global_randomness(name):
    method, measurement = method_named(name), measured(DEGRADATIONS["pool"], [0, 1], images())
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    with_truth = method.restore(measurement, random=RandomStreams(5)).samples
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(1)
    blind = method.restore(measurement.without_truth(), random=RandomStreams(5)).samples
    assert torch.equal(with_truth, blind)
    assert not method.uses_truth


@pytest.mark.parametrize("name", METHODS)
def test_the_cost_is_what_was_called(name, monkeypatch):
    method, measurement = method_named(name), measured(DEGRADATIONS["pool"], [0, 1], images())
    calls = []
    if method.prior is not None:
        original = method.prior.predict
        monkeypatch.setattr(method.prior, "predict", lambda *a, **k: calls.append(len(a[0])) or original(*a, **k))
    restoration = method.restore(measurement, num_samples=2, random=RandomStreams(5))
    assert restoration.cost == method.calls()
    assert len(calls) == method.calls().nfe and set(calls) <= {4}


@pytest.mark.parametrize("name", METHODS)
def test_built_from_a_configuration(name):
    injected = {"prior": tiny_denoiser()} if name in ("sdedit", "dps") else {}
    found = catalogue("restoration", Method)[name]
    path = f"{found.__module__}.{found.__name__}"
    assert isinstance(build(path, Method, where="methods.x", **injected), found)
    if name in ("sdedit", "dps"):
        options = {"steps": 5, "sampler": {"class_path": "diffusion.samplers.ddim.DDIM", "init_args": {"eta": 0.5}}}
        assert (
            build({"class_path": path, "init_args": options}, Method, where="methods.x", **injected).sampler.eta == 0.5
        )
        with pytest.raises(UserError, match="steps must lie in 1"):
            build({"class_path": path, "init_args": {"steps": 0}}, Method, where="methods.x", **injected)
