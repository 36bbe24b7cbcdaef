"""What every method promises; a new file in restoration/ is tested without being named here."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from helpers import tiny_denoiser
from posterior_worlds import STEPS, WORLDS, MaskDDNM, gaussian_prior, moments
from restoration_worlds import CountingNetwork, Cubed, Flipped
from torch import Tensor, nn

from common.build import build, named_parameters
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.at_severity import AtSeverity
from degradations.average_pool import AveragePool
from degradations.base import Degradation, Operator
from degradations.bicubic import Bicubic
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularGaussianBlur
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise, Noise
from degradations.poisson_noise import PoissonNoise
from degradations.reflecting_blur import ReflectingGaussianBlur
from degradations.severity.gaussian_blur import GaussianBlur
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Denoiser
from diffusion.samplers.heun import Heun
from inference.catalogue import catalogue
from networks.untrained.skip import SkipArchitecture
from restoration.base import Bias, Method, Unsupported
from restoration.posterior import PosteriorSampler
from restoration.pseudo_inverse import PseudoInverse
from restoration.stopping.fixed import FixedIterations
from restoration.training_mean import TrainingMean

SHAPE = (3, 8, 8)
METHODS: dict[str, type[Method]] = catalogue("restoration", Method) | {"example": MaskDDNM}
del METHODS["from_folder"]  # restores nothing, reads what another program did: tests/evaluation/test_measurements.py

#: So that a method takes milliseconds; for whichever of these options it has.
QUICK = {
    "steps": 4,
    "iterations": 5,
    "start": 0.5,
    "repeats": 2,
    "architecture": SkipArchitecture(preset="small", channels=[4], inputs=2),
    "stopping": FixedIterations(iterations=5),
}
#: Other options of some of them, by their name or by one that begins with it.
MORE: dict[str, dict[str, Any]] = {
    "total_variation": {"iterations": 30},
    "dps-heun": {"sampler": Heun(), "spacing": "karras"},
    "cold-direct": {"algorithm": "direct"},
    "diversity": {"inner": {"class_path": "restoration.ddrm.DDRM", "init_args": {"steps": 4}}},
    "diversity-dps": {"inner": {"class_path": "restoration.dps.DPS", "init_args": {"steps": 4}}, "strength": 1.0},
    "representatives": {"inner": {"class_path": "restoration.ddrm.DDRM", "init_args": {"steps": 4}}, "draws": 3},
    "daps-denoiser": {"spread": "denoiser", "flow_steps": 1},
    "pigdm-code": {"rule": "code"},
    "daps-langevin": {"inner": "langevin", "langevin_steps": 5},
    "warm_start-projection": {"first": PseudoInverse(), "start_255": 60, "consistency": "projection"},
    "warm_start-gradient": {"first": PseudoInverse(), "start_255": 60, "consistency": "gradient"},
}
#: How a method is made that needs more than a prior and options (a file, a network of its own), by its name: a function
#: of the prior, which is None for a method that takes none.
MADE: dict[str, Callable[[Any], Method]] = {
    "training_mean": lambda prior: TrainingMean(data="tests.evaluation.toys.Colour8"),
}
#: Of these, those with a bias of their own.
RULES = ["daps-denoiser", "pigdm-code"]
CASES = (*METHODS, *(n for n in MORE if n not in METHODS))

#: The family that the cold restorer of these tests undoes.
FAMILY = GaussianBlur(steps=4, taps=5, std=0.6)
RESTORABLE: dict[str, tuple[Degradation, Noise]] = {
    "identity": (Identity(), GaussianNoise(sigma=0.1)),
    "box": (BoxMask(size=4), GaussianNoise(sigma=0.1)),
    "pool": (AveragePool(factor=2), GaussianNoise(sigma=0.1)),
    "bicubic": (Bicubic(factor=2), GaussianNoise(sigma=0.1)),
    "circular": (CircularGaussianBlur(std=0.6), GaussianNoise(sigma=0.1)),
    "reflecting": (ReflectingGaussianBlur(std=0.6), GaussianNoise(sigma=0.1)),
    "grey": (Grey(), GaussianNoise(sigma=0.1)),
    "severity": (AtSeverity(family=FAMILY, severity=4), GaussianNoise(sigma=0.0)),
    "poisson": (Identity(), PoissonNoise(scale=200)),
    "hole": (BoxMask(size=4), GaussianNoise(sigma=0.0)),
}
#: Convolutions of another batch size round differently: float32 noise of a few steps, which a gradient through the
#: network enlarges.
ROUNDING = 5e-4
#: Operators that only some methods can take.
HARD: dict[str, Operator] = {"not_linear": Cubed(SHAPE), "without_svd": Flipped(SHAPE)}
TASKS = (*RESTORABLE, *HARD)


class Pale(nn.Module):
    """A network of a cold restorer: something that depends on the image and on the severity."""

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.tanh(1.3 * x + 0.02 * time.view(-1, 1, 1, 1))


def measured(task: str, rows: list[int], dtype: torch.dtype = torch.float32) -> Measurement:
    x = (RandomStreams(7).uniform("images", 0, 0, (3, *SHAPE)) * 1.8 - 0.9).to(dtype)[rows]
    index, random = [10 + r for r in rows], RandomStreams(3)
    if task in RESTORABLE:
        degradation, noise = RESTORABLE[task]
        return measure(x, degradation=degradation, noise=noise, index=index, random=random)
    noise = GaussianNoise(sigma=0.1)
    return Measurement(
        y=noise.add(HARD[task](x), index, random), operator=HARD[task], noise=noise, index=tuple(index), truth=x
    )


def prior_for(cls: type[Method]) -> Any:
    if not cls.needs_prior:
        return None
    if cls.prior_kind == "restorer":
        return ColdRestorer(network=CountingNetwork(Pale()), family=FAMILY, data_shape=SHAPE)
    prior = tiny_denoiser(SHAPE).requires_grad_(False)
    prior.network = CountingNetwork(prior.network)
    return prior


def options(cls: type[Method], given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in named_parameters(cls)}


@cache
def method_named(name: str) -> Method:
    cls = METHODS[name.partition("-")[0]]
    prior = prior_for(cls)
    if name in MADE:
        return MADE[name](prior)
    return cls(**{**options(cls, QUICK), **MORE.get(name, {})}, **({} if prior is None else {"prior": prior}))


def restored(method: Method, measurement: Measurement, num_samples: int = 2, seed: int = 5, **more: Any) -> Tensor:
    return method.restore(measurement, num_samples=num_samples, random=RandomStreams(seed), **more).samples


def refusal(method: Method, measurement: Measurement) -> str | None:
    try:
        method.check(measurement.operator, measurement.noise)
    except Unsupported as error:
        return str(error)
    return None


@cache
def easy(name: str) -> str:
    """A task that this method takes: holes of their own in every image, where it can."""
    return next(t for t in ("box", "severity", *TASKS) if refusal(method_named(name), measured(t, [0])) is None)


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


@pytest.fixture
def method(name) -> Method:
    return method_named(name)


def test_the_files_are_the_list_of_methods():
    assert {"pseudo_inverse", "total_variation", "sdedit", "dps", "dip", "cold", "warm_start"} <= set(METHODS)


@pytest.mark.parametrize("task", TASKS)
def test_it_restores_or_says_why_not(name, method, task):
    """Shape, dtype, finiteness; rows in another order and another number are the same; a refusal comes before any call
    of the network, is one sentence, and `restore` says the same as `check`.
    """
    measurement = measured(task, [0, 1, 2])
    network = getattr(method.prior, "network", None)
    if network is not None:
        network.clear()
    reason = refusal(method, measurement)
    if reason is not None:
        assert "\n" not in reason and not reason.endswith(".") and len(reason.split()) >= 5, reason
        with pytest.raises(Unsupported, match=re.escape(reason)):
            restored(method, measurement)
        assert network is None or not network.forwards
        return
    whole = restored(method, measurement)
    assert whole.shape == (3, 1 if method.deterministic else 2, *SHAPE)
    assert whole.dtype == torch.float32 and not whole.requires_grad and bool(torch.isfinite(whole).all())
    torch.testing.assert_close(restored(method, measured(task, [2, 0])), whole[[2, 0]], atol=ROUNDING, rtol=0)


def test_an_image_is_the_same_alone(name, method):
    whole = restored(method, measured(easy(name), [0, 1, 2]))
    torch.testing.assert_close(restored(method, measured(easy(name), [1])), whole[[1]], atol=ROUNDING, rtol=0)


def test_more_samples_begin_with_fewer_and_a_seed_decides(name, method):
    measurement = measured(easy(name), [0, 1])
    many, few = restored(method, measurement, 3), restored(method, measurement, 1)
    if method.deterministic:
        assert many.shape[1] == 1 and torch.equal(many, few) and torch.equal(restored(method, measurement, 1, 6), few)
        return
    assert many.shape[1] == 3
    if not method.couples_samples:
        torch.testing.assert_close(many[:, :1], few, atol=ROUNDING, rtol=0)
    assert float((many[:, 0] - many[:, 1]).abs().mean()) > 1e-3
    assert float((restored(method, measurement, 1, 6) - few).abs().mean()) > 1e-3


def test_a_run_leaves_nothing_behind(name, method):
    """The same object gives the same again, after another measurement, and does not write into what it was given."""
    measurement = measured(easy(name), [0, 1])
    y = measurement.y.clone()
    first = restored(method, measurement)
    restored(method, measured(easy(name), [2]), 1)
    assert torch.equal(restored(method, measurement), first) and torch.equal(measurement.y, y)
    assert method.prior is None or all(p.grad is None for p in method.prior.parameters())


def test_no_truth_and_no_global_randomness(name, method):
    measurement = measured(easy(name), [0, 1])
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    with_truth = restored(method, measurement)
    assert torch.equal(torch.random.get_rng_state(), state) and not method.uses_truth
    torch.manual_seed(1)
    assert torch.equal(restored(method, measurement.without_truth()), with_truth)


def test_it_runs_with_and_without_gradients_around_it(name, method):
    measurement = measured(easy(name), [0, 1])
    with torch.no_grad():
        inside = restored(method, measurement)
    assert torch.equal(inside, restored(method, measurement))


def test_a_measurement_in_float64_is_taken_or_refused(name, method):
    measurement = measured(easy(name), [0, 1], torch.float64)
    try:
        found = restored(method, measurement)
    except UserError as error:
        assert "float64" in str(error)
        return
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), restored(method, measured(easy(name), [0, 1])), atol=1e-2, rtol=0)


@pytest.mark.parametrize("task", TASKS)
def test_the_cost_that_is_declared_is_the_one_that_is_made(name, method, task):
    """Rows of the network's calls, and of gradients that came back to its input, per sample; a denoiser is called in
    inference mode unless it is gone through backwards (restorers, and a prior beside a fitted network, without it).
    """
    network, measurement = getattr(method.prior, "network", None), measured(task, [0, 1])
    if refusal(method, measurement) is not None:
        pytest.skip("refused")
    for num_samples in (1, 2):
        if network is not None:
            network.clear()
        found = method.restore(measurement, num_samples=num_samples, random=RandomStreams(5))
        chains = found.samples.shape[0] * found.samples.shape[1]
        made = (0, 0) if network is None else (sum(network.forwards) / chains, sum(network.backwards) / chains)
        assert made == (found.cost.nfe, found.cost.backwards)
        if network is not None and isinstance(method.prior, Denoiser) and not name.startswith("dip"):
            assert sum(network.recording) == sum(network.backwards)
        assert found.cost == method.calls() or (method.cost_varies and task != easy(name))
        if isinstance(method, PosteriorSampler):
            assert set(network.forwards) == {chains}, "all chains go through the network together"


def test_progress_and_trace(name, method):
    """Steps are counted from 0, with every chain's estimate; a posterior sampler reports each, and has one number of
    each in its curves.
    """
    measurement, seen = measured(easy(name), [0, 1]), []
    found = method.restore(
        measurement,
        num_samples=2,
        random=RandomStreams(5),
        on_step=lambda i, n, x0: seen.append((i, n, tuple(x0.shape), x0.requires_grad)),
    )
    chains = found.samples.shape[0] * found.samples.shape[1]
    assert seen and all(0 <= i < n for i, n, *_ in seen)
    assert [i for i, *_ in seen] == sorted(i for i, *_ in seen)
    assert {s[2:] for s in seen} == {((chains, *SHAPE), False)}
    for key, values in found.trace.items():
        assert key and all(isinstance(v, float) for v in values), key
    if isinstance(method, PosteriorSampler):
        assert [s[:2] for s in seen] == [(i, len(seen)) for i in range(len(seen))]
        assert {len(values) for values in found.trace.values()} <= {len(seen)}


@pytest.mark.parametrize("name", [n for n, c in METHODS.items() if c is not MaskDDNM and n not in MADE])
def test_built_from_a_configuration(name):
    cls = METHODS[name]
    path, prior = f"{cls.__module__}.{cls.__name__}", prior_for(cls)
    injected = {} if prior is None else {"prior": prior}
    assert isinstance(build(path, Method, where="methods.x", **injected), cls)
    known = named_parameters(cls)
    if "sampler" in known:
        given = {"steps": 5, "sampler": {"class_path": "diffusion.samplers.ddim.DDIM", "init_args": {"eta": 0.5}}}
        built = build({"class_path": path, "init_args": given}, Method, where="methods.x", **injected)
        assert built.sampler.eta == 0.5
    for option in {"steps", "iterations"} & set(known):
        with pytest.raises(UserError, match=option):
            build({"class_path": path, "init_args": {option: 0}}, Method, where="methods.x", **injected)


def test_what_it_says_of_itself(name, method):
    """A posterior sampler says how far it is off, in words where it is; one sample is not coupled."""
    assert method.bias is not None or not isinstance(method, PosteriorSampler)
    if method.bias is not None:
        exact, bias = Bias(), method.bias
        assert bool(bias.words) == ((bias.mean, bias.deviation) != (exact.mean, exact.deviation))
    assert not (method.deterministic and method.couples_samples)
    assert type(method).__doc__ and method.calls().backwards <= method.calls().nfe


def for_moments(name: str) -> Method:
    cls = METHODS[name.partition("-")[0]]
    if name in MADE:
        return MADE[name](gaussian_prior())
    given = options(cls, {"steps": STEPS, "spacing": "karras", "clip": False})
    return cls(**{**given, **(MORE[name] if name in RULES else {})}, prior=gaussian_prior())


@pytest.mark.parametrize(
    "name",
    [n for n, c in METHODS.items() if issubclass(c, PosteriorSampler) or c.bias is not None or n == "warm_start"]
    + RULES,
)
def test_moments_on_gaussian_data(name):
    """Mean and standard deviations within what the method declares, in every world it takes; and what it declares is
    there: tolerances that are twice too wide catch nothing.
    """
    method, found = for_moments(name), {}
    for kind, make in WORLDS.items():
        world = make()
        if refusal(method, world.measurement) is None:
            found[kind] = moments(method, world)
    if not found:
        pytest.skip("takes no noise: test_oracle_rows.py has its numbers")
    bias, exact = method.bias, Bias()
    assert all(m.within(bias) for m in found.values()), (bias, found)
    means, lows, highs = zip(*((m.mean, *m.deviation) for m in found.values()), strict=True)
    if bias.mean > exact.mean:
        assert max(means) > bias.mean / 2, (bias, found)
    if bias.deviation[0] < exact.deviation[0]:
        assert min(lows) < (1 + bias.deviation[0]) / 2, (bias, found)
    if bias.deviation[1] > exact.deviation[1]:
        assert max(highs) > (1 + bias.deviation[1]) / 2, (bias, found)
