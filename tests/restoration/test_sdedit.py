"""SDEdit: its rows of reference 2.14, and what start, steps and repeats mean."""

from pathlib import Path

import pytest
import torch
from helpers import tiny_denoiser
from restoration_worlds import Cubed, OneStream, correlated_pair, observed_first

from checkpoints.load import load_prior
from common.random_streams import RandomStreams
from common.yaml_files import read_yaml
from degradations.average_pool import AveragePool
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from restoration.base import Unsupported
from restoration.sdedit import SDEdit

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("start", "mean", "deviation"),
    # Reference 2.14, "SDEdit from zero-filled y", t0 = 200 / 500 / 800 of 1000.
    [
        (0.2, (0.781, 0.370), (0.664, 0.666)),
        (0.5, (0.102, 0.072), (0.988, 0.992)),
        (0.8, (0.017, 0.002), (0.996, 0.997)),
    ],
)
def test_rows_of_the_oracle(start, mean, deviation):
    method = SDEdit(prior=correlated_pair(), start=start, clip=False)
    samples = method.restore(observed_first(), num_samples=20_000, random=OneStream(5)).samples.flatten(2)[0]
    assert samples.mean(0).tolist() == pytest.approx(mean, abs=0.03)
    assert samples.std(0).tolist() == pytest.approx(deviation, abs=0.03)


def test_levels_and_cost():
    prior = correlated_pair()
    method = SDEdit(prior=prior, start=0.4, repeats=3)
    assert len(method.sigmas) == 401 and method.calls().nfe == 1200 and method.calls().backwards == 0
    assert float(method.sigmas[0]) == pytest.approx(float(prior.schedule.sigmas[399]))
    few = SDEdit(prior=prior, start=0.4, steps=100)
    assert float(few.sigmas[0]) == float(method.sigmas[0])  # the start does not depend on the number of steps
    assert 38 <= few.calls().nfe <= 42
    for spacing in ("trailing", "leading", "karras"):
        levels = SDEdit(prior=prior, start=1.0, steps=10, spacing=spacing).sigmas
        assert (levels.diff() < 0).all() and levels[-1] == 0


@pytest.mark.parametrize("data", ["mnist", "faces"])
def test_the_posters_comparison_begins_at_the_levels_that_it_names(data):
    """Those of t = 200, 500, 800 of the linear schedule, reference 0.3, with about t calls, of whatever prior."""
    read = read_yaml(ROOT / f"configs/evaluate/poster_comparison_{data}.yaml")
    prior = load_prior(ROOT / read["priors"]["default"]).denoiser
    for t, level in ((200, 0.7193), (500, 3.4241), (800, 25.53)):
        method = SDEdit(prior=prior, **read["methods"][f"sdedit_t{t}"]["init_args"])
        assert method.highest == pytest.approx(level, rel=0.01)
        assert method.calls().nfe == pytest.approx(t, abs=2)


def test_a_small_start_keeps_the_guide():
    """At the least level the result is the guide up to noise of that level."""
    prior = tiny_denoiser()
    measurement = measure(
        torch.full((1, 1, 8, 8), 0.5),
        degradation=AveragePool(factor=2),
        noise=GaussianNoise(sigma=0.0),
        index=[4],
        random=RandomStreams(0),
    )
    method = SDEdit(prior=prior, start=0.001)
    assert len(method.sigmas) == 2
    sample = method.restore(measurement, random=RandomStreams(0)).samples[:, 0]
    assert (sample - 0.5).abs().max() < 10 * float(method.sigmas[0])


def test_steps_are_reported_over_all_repeats():
    measurement = measure(
        torch.zeros(1, 1, 8, 8),
        degradation=AveragePool(factor=2),
        noise=GaussianNoise(sigma=0.1),
        index=[0],
        random=RandomStreams(0),
    )
    method = SDEdit(prior=tiny_denoiser(), start=0.5, steps=8, repeats=2, sampler=DPMSolverPP2M())
    seen = []
    method.restore(
        measurement,
        num_samples=3,
        random=RandomStreams(0),
        on_step=lambda i, n, x0: seen.append((i, n, tuple(x0.shape))),
    )
    total = method.calls().nfe
    assert seen == [(i, total, (3, 1, 8, 8)) for i in range(total)]


def test_refuses_operators_without_a_guide():
    measurement = Measurement(
        y=torch.zeros(1, 1, 8, 8), operator=Cubed((1, 8, 8)), noise=GaussianNoise(sigma=0.0), index=(0,)
    )
    with pytest.raises(Unsupported, match="not linear"):
        SDEdit(prior=tiny_denoiser(), steps=4).restore(measurement, random=RandomStreams(0))


@pytest.mark.parametrize("options", [{"start": 0.0}, {"start": 1.1}, {"repeats": 0}, {"steps": 0}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError):
        SDEdit(prior=correlated_pair(), **options)
