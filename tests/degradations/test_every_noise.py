"""What every noise law promises; a new file in degradations/ is tested without being named here."""

import inspect
import warnings
from functools import cache
from typing import Any

import jsonargparse
import pytest
import torch
from torch import Tensor

from common.image_range import sigma_to_255
from common.random_streams import RandomStreams
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import Noise
from degradations.random_mask import RandomMask
from inference.catalogue import catalogue

#: Options to try each law with; one that needs none may do without.
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "noise": [{"sigma_255": 25}, {"sigma_unit": 0.3}],
    "clipped_gaussian_noise": [{"sigma_255": 25}, {"sigma_unit": 0.26}, {"sigma_255": 3}],
    "poisson_noise": [
        {"scale": 25},
        {"scale": 5},
        {"scale": 25, "clip": True},
        {"scale": 12, "clip": True},
        {"scale": 5, "clip": True},
        {"scale": 3000, "clip": True},
    ],
    "speckle_noise": [{"sigma_unit": 0.3}, {"sigma_unit": 0.2, "clip": True}, {"sigma_unit": 0.45, "clip": True}],
    "impulse_noise": [
        {"probability": 0.3},
        {"probability": 0.3, "clip": True},
        {"probability": 0.3, "kind": "salt"},
        {"probability": 0.3, "kind": "pepper"},
        {"probability": 0.3, "kind": "uniform"},
    ],
}
LAWS = catalogue("degradations", Noise)
RANDOM = RandomStreams(0)
#: A x of three images each: a picture's greys from black up, mid greys, bright ones, and both ends at once.
PICTURES = {
    "black": lambda side: torch.full((1, side, side), -1.0),
    "white": lambda side: torch.full((1, side, side), 1.0),
    "mid": lambda side: torch.full((1, side, side), 0.1),
    "dark": lambda side: torch.linspace(-1, -0.7, side * side).view(1, side, side),
    "bright": lambda side: torch.linspace(0.6, 1, side * side).view(1, side, side),
    "all": lambda side: torch.linspace(-1, 1, side * side).view(1, side, side),
    "strokes": lambda side: torch.where(torch.arange(side) % 5 == 0, 0.7, -1.0).expand(1, side, side).clone(),
}


@cache
def laws() -> dict[str, Noise]:
    found: dict[str, Noise] = {}
    for name, cls in LAWS.items():
        needed = [k for k, p in inspect.signature(cls).parameters.items() if p.default is inspect.Parameter.empty]
        if name not in EXAMPLES and needed:
            pytest.fail(f"{cls.__name__} needs {needed}: add '{name}' with options to EXAMPLES in {__file__}")
        for options in EXAMPLES.get(name, [{}]):
            noise = cls(**options)
            found[repr(noise)] = noise
    return found


def pictures(side: int) -> Tensor:
    return torch.stack([make(side) for make in PICTURES.values()])


def noise_named(name: str) -> Noise:
    return laws()[name]


@pytest.fixture
def noise(request: pytest.FixtureRequest) -> Noise:
    return noise_named(request.param)


each = pytest.mark.parametrize("noise", list(laws()), indirect=True)


def test_the_table_names_laws_that_are_there():
    assert not set(EXAMPLES) - set(LAWS), "EXAMPLES names files that have no noise law"


@each
def test_it_is_a_function_of_seed_and_index(noise: Noise):
    x = torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before, index, state = x.clone(), [8, 3, 5, 0], torch.get_rng_state()
    together = noise.add(x, index, RandomStreams(7))
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(x, before)
    assert together.shape == x.shape and together.dtype == x.dtype and bool(torch.isfinite(together).all())
    assert torch.equal(together, noise.add(x, index, RandomStreams(7)))
    assert torch.equal(noise.add(x[[3, 0]], [0, 8], RandomStreams(7)), together[[3, 0]])
    for row, i in enumerate(index):
        assert torch.equal(noise.add(x[row : row + 1], [i], RandomStreams(7))[0], together[row])
    assert not torch.equal(together, noise.add(x, index, RandomStreams(8)))
    assert not torch.equal(together[:1], noise.add(x[:1], [9], RandomStreams(7)))
    assert noise.add(x.double(), index, RandomStreams(7)).dtype == torch.float64


@each
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "mask"])
def test_rms_and_variance_are_those_of_what_was_added(noise: Noise, masked: bool):
    """On black, dark, mid and bright pictures, read off y alone; half of each is missing under the mask."""
    side = 140
    x = pictures(side)
    y = noise.add(x, range(len(x)), RANDOM)
    mask = torch.ones(len(x), 1, side, side)
    if masked:
        mask[:, :, :, ::2] = 0
        y = y * mask
    squares = (y - x).square() * mask
    true = (squares.sum((1, 2, 3)) / mask.sum((1, 2, 3))).double()
    given = mask if masked else None
    found = noise.rms(y, given)
    assert found.shape == (len(x),) and found.dtype == torch.float64
    least = torch.where(true == 0, 2.0, 0.2) / 127.5  # of a picture without noise 2 of 255 may seem to be some
    assert bool(((found - true.sqrt()).abs() <= 0.06 * true.sqrt() + least).all()), found / true.sqrt()
    variance = noise.variance(y, given)
    assert variance.shape == y.shape and variance.dtype == y.dtype and bool((variance >= 0).all())
    mean = ((variance * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))).double()
    assert bool(((mean.sqrt() - true.sqrt()).abs() <= 0.06 * true.sqrt() + least).all()), mean.sqrt() / true.sqrt()


@each
def test_rms_and_variance_are_of_each_image_alone(noise: Noise):
    x = pictures(24)
    y = noise.add(x, range(len(x)), RANDOM)
    mask = (torch.arange(24) % 3 > 0).float().expand(len(x), 1, 24, 24)
    for row in (0, 3, 6):
        one = slice(row, row + 1)
        torch.testing.assert_close(noise.rms(y[one], mask[one]), noise.rms(y, mask)[one], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(noise.variance(y[one]), noise.variance(y)[one], rtol=1e-5, atol=1e-9)


@each
def test_white_noise_has_one_level_and_no_other_noise_is_called_white(noise: Noise):
    x = torch.tensor([-1.0, -0.3, 1.0]).view(3, 1, 1, 1).expand(3, 1, 150, 150)
    n = (noise.add(x, [0, 1, 2], RANDOM) - x).double()
    level = n.square().mean((1, 2, 3)).sqrt()
    one_level = bool(((level / noise.sigma - 1).abs() < 0.02).all())
    assert noise.is_white == one_level
    if noise.is_white:
        neighbours = (n[..., 1:] * n[..., :-1]).mean((1, 2, 3)) / noise.sigma**2
        assert bool((n.mean((1, 2, 3)).abs() < 0.03 * noise.sigma).all()) and bool((neighbours.abs() < 0.03).all())


@each
@pytest.mark.parametrize("unit", [0.06, 0.5, 0.9])
def test_misfit_is_least_at_the_truth_on_average(noise: Noise, unit: float):
    """The mean of -log p(y | u) over y drawn with u0 is least at u = u0 (Gibbs' inequality)."""
    truth = torch.full((1, 1, 160, 160), 2 * unit - 1, dtype=torch.float64)
    y = noise.add(truth, [5], RANDOM)
    least = float(noise.misfit(y, truth))
    for step in (-0.08, -0.03, 0.03, 0.08):
        assert float(noise.misfit(y, truth + step)) > least, step


@each
def test_the_gradient_of_the_misfit_is_that_of_finite_differences(noise: Noise):
    x = torch.rand(3, 1, 5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 1.9 - 0.95
    y = noise.add(x, [0, 1, 2], RANDOM)
    near = (x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))).requires_grad_()
    far = torch.full_like(x, 0.137).requires_grad_()
    for clean in (near, far):
        assert torch.autograd.gradcheck(lambda z: noise.misfit(y, z), clean, eps=1e-7, atol=1e-3, rtol=1e-4)


@each
def test_the_misfit_of_a_batch_is_that_of_its_images(noise: Noise):
    x = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(2)) * 2 - 1
    y = noise.add(x, [0, 1, 2], RANDOM)
    together = noise.misfit(y, x)
    assert together.shape == (3,) and together.dtype == x.dtype and bool(torch.isfinite(together).all())
    alone = torch.cat([noise.misfit(y[k : k + 1], x[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-6, atol=1e-6)
    mask = torch.zeros(3, 1, 6, 5)
    assert (noise.misfit(y, x, mask) == 0).all()
    mask[..., :2] = 1
    rest = noise.misfit(y.double(), x.double(), 1 - mask)
    whole = noise.misfit(y.double(), x.double())
    torch.testing.assert_close(noise.misfit(y.double(), x.double(), mask) + rest, whole)


@each
def test_a_missing_value_says_nothing(noise: Noise):
    """It is 0 in y and in A x: the gradient in x is 0 there, with and without a mask."""
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    m = measure(x, degradation=RandomMask(removed=0.5), noise=noise, index=[0, 1], random=RANDOM)
    z = (x * 0.9).requires_grad_()
    gradients = [
        torch.autograd.grad(noise.misfit(m.y, m.operator(z), mask).sum(), z)[0] for mask in (None, m.operator.mask)
    ]
    assert bool(torch.isfinite(gradients[0]).all()) and bool((gradients[0][m.operator.mask == 0] == 0).all())
    torch.testing.assert_close(*gradients)


@each
def test_dark_and_absurd_images_have_a_finite_misfit_and_a_way_back(noise: Noise):
    """Of an estimate that leaves [-1, 1], as those of a sampler do; light was measured, and there the gradient asks
    for more of it."""
    y = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 1, 3)
    for value in (-3.0, -1.0, -1 + 1e-9, 1.0, 3.0):
        clean = torch.full_like(y, value).requires_grad_()
        misfit = noise.misfit(y, clean)
        (gradient,) = torch.autograd.grad(misfit.sum(), clean)
        assert bool(torch.isfinite(misfit).all()) and bool(torch.isfinite(gradient).all()), value
        if value <= -1:
            assert float(gradient[..., 1]) <= 0


@each
def test_measurements_are_within_reach(noise: Noise):
    """Nobody is warned about the brightest and the darkest of pictures, under an operator of less range too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for degradation in (Identity(), Grey(weights=[0.1, 0.1, 0.1])):
            x = torch.ones(2, 3, 64, 64)
            x[1] = -1
            measure(x, degradation=degradation, noise=noise, index=[0, 1], random=RANDOM)
    operator = Identity().operator_for((1, 4, 4), [0], RANDOM)
    far = torch.full((1, 1, 4, 4), 1 + noise.reach + 0.1)
    with pytest.warns(UserWarning, match="beyond the operator's range"):
        Measurement(y=far, operator=operator, noise=noise, index=(0,))


@each
def test_refusals(noise: Noise):
    x = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="one entry per image"):
        noise.add(x, [0], RANDOM)
    with pytest.raises(ValueError, match="one entry per image"):
        noise.add(x[:1], [0, 1], RANDOM)
    with pytest.raises(ValueError, match="one shape"):
        noise.misfit(x, x[:1])
    silent = inspect.unwrap(type(noise)).__new__(type(noise))
    vars(silent).update({**vars(noise), "sigma": 0.0})
    with pytest.raises(ValueError, match="sigma is 0"):
        silent.misfit(x, x)


@pytest.mark.parametrize("name", LAWS)
def test_a_config_names_it_and_a_wrong_option_is_refused(name: str):
    cls = LAWS[name]
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--noise", type=Noise)
    for options in EXAMPLES.get(name, [{}]):
        spec = {"class_path": f"{cls.__module__}.{cls.__name__}", "init_args": options}
        built = parser.instantiate(parser.parse_object({"noise": spec})).noise
        assert repr(built) in laws() and repr(built).startswith(cls.__name__)
        assert f"{sigma_to_255(built.sigma):g}" in repr(built)
        with pytest.raises(jsonargparse.ArgumentError):
            parser.parse_object({"noise": {**spec, "init_args": {**options, "strenght": 1}}})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each
def test_gpu_agrees(noise: Noise):
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = noise.add(x, [0, 1], RANDOM)
    torch.testing.assert_close(noise.add(x.cuda(), [0, 1], RANDOM).cpu(), y, rtol=0, atol=1e-6)
    torch.testing.assert_close(noise.rms(y.cuda()).cpu(), noise.rms(y), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(noise.variance(y.cuda()).cpu(), noise.variance(y), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(noise.misfit(y.cuda(), x.cuda()).cpu(), noise.misfit(y, x), rtol=1e-5, atol=1e-4)
