"""What every sampler owes: the calls it announces, noise that belongs to the image, levels that make sense."""

import pytest
import torch

from common.random_streams import RandomStreams
from diffusion.levels import karras_sigmas, spaced_sigmas
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from diffusion.samplers.heun import Heun
from diffusion.schedules import Cosine
from tests.diffusion.tools import SHAPE, gaussian, normal, optimal

SAMPLERS = {
    "ddpm": AncestralDDPM(),
    "ddpm_large": AncestralDDPM(variance="fixed_large"),
    "ddim": DDIM(),
    "ddim_half": DDIM(eta=0.5),
    "dpm_solver_pp": DPMSolverPP2M(),
    "heun": Heun(),
    "heun_churn": Heun(churn=5.0, s_min=0.05, s_max=50.0, s_noise=1.003),
}
each = pytest.mark.parametrize("name", SAMPLERS)


def sequence(index, samples=None):
    return RandomStreams(7).sequence("test", index, samples or [0] * len(index), SHAPE)


@each
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_calls(name, steps):
    sampler, denoiser, calls, seen = SAMPLERS[name], gaussian(), [], []
    predict = denoiser.predict
    denoiser.predict = lambda *a: calls.append(1) or predict(*a)
    levels = karras_sigmas(steps, 10.0, 80)
    sampler.sample(
        denoiser,
        80 * normal(2, *SHAPE),
        levels,
        noise=sequence([0, 1]),
        on_step=lambda i, x0: seen.append((i, float(x0.abs().max()))),
    )
    assert len(calls) == sampler.calls(steps) == (2 * steps - 1 if isinstance(sampler, Heun) else steps)
    assert [i for i, _ in seen] == list(range(steps)) and max(m for _, m in seen) <= 1  # clipped unless asked otherwise


@each
def test_the_last_step_gives_x0(name):
    denoiser, x = gaussian(), normal(2, *SHAPE)
    sampler = SAMPLERS[name]
    levels = torch.tensor([0.04, 0.0])  # below s_min: churn has nothing to add
    found = sampler.sample(denoiser, x, levels, noise=sequence([0, 1]), clip=False)
    torch.testing.assert_close(
        found, denoiser.predict(x, torch.full((2,), float(levels[0]), dtype=torch.float64)).x0, rtol=1e-12, atol=1e-12
    )


@each
def test_batch_split(name):
    """An image's result depends on its own (index, sample) key, not on its neighbours or its place in the batch."""
    denoiser, sampler, levels = gaussian(), SAMPLERS[name], karras_sigmas(12, 0.01, 80)
    keys = [(3, 0), (3, 1), (11, 0), (0, 5)]

    def run(part):
        index, sample = zip(*part, strict=True)
        start = 80 * RandomStreams(7).normal_batch("start", index, sample, SHAPE).double()
        with sequence(index, sample) as noise:
            return sampler.sample(denoiser, start, levels, noise=noise)

    whole = run(keys)
    split = torch.cat([run(keys[2:]), run(keys[:1]), run(keys[1:2])])[[2, 3, 0, 1]]
    torch.testing.assert_close(split, whole, rtol=1e-11, atol=1e-11)
    assert float((whole[0] - whole[1]).abs().max()) > 1e-3  # two samples of one image differ


@each
def test_nothing_is_drawn_from_the_global_generator(name):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    SAMPLERS[name].sample(gaussian(), 80 * normal(2, *SHAPE), karras_sigmas(5, 0.01, 80), noise=sequence([0, 1]))
    assert torch.equal(torch.get_rng_state(), before)


@each
def test_stochastic_samplers_ask_for_noise(name):
    sampler, levels = SAMPLERS[name], karras_sigmas(5, 0.01, 80)
    assert sampler.stochastic == (name not in ("ddim", "dpm_solver_pp", "heun"))
    if sampler.stochastic:
        with pytest.raises(ValueError, match=f"{type(sampler).__name__} is stochastic"):
            sampler.sample(gaussian(), normal(1, *SHAPE), levels)


@pytest.mark.parametrize(
    "levels",
    [
        [1.0],
        [0.0],
        [],
        [1.0, 0.5],
        [0.5, 1.0, 0.0],
        [1.0, 1.0, 0.0],
        [1.0, 0.5, 0.0, 0.0],
        [float("inf"), 1.0, 0.0],
        [1.0, float("nan"), 0.0],
    ],
)
def test_bad_lists_are_refused(levels):
    with pytest.raises(ValueError, match="strictly decreasing and end in 0"):
        DDIM().sample(gaussian(), normal(1, *SHAPE), torch.tensor(levels))


@each
def test_float32_follows_float64(name):
    denoiser, sampler, levels = gaussian(), SAMPLERS[name], spaced_sigmas(gaussian(), 20)
    start = 157 * normal(3, *SHAPE)
    results = [
        sampler.sample(denoiser, start.to(dtype), levels, noise=sequence([0, 1, 2]))
        for dtype in (torch.float32, torch.float64)
    ]
    assert results[0].dtype == torch.float32
    # x begins at about 300 with a rounding of 2e-5, which the flow shrinks along with x.
    torch.testing.assert_close(results[0].double(), results[1], rtol=0, atol=2e-5)


@each
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_cosine_from_its_very_last_level(name, prediction):
    """alpha_bar = 2e-9: x0 from epsilon has no digit there; clipping, with eps derived again, keeps the chain on its
    way. Heun's method, which averages the slope there with the next one, begins at 80.
    """
    schedule = Cosine()
    denoiser, exact = optimal(prediction, schedule), gaussian(schedule)
    levels = SAMPLERS[name].suited(spaced_sigmas(exact, 20))
    start = (float(levels[0]) * normal(4, *SHAPE)).float()
    found = SAMPLERS[name].sample(denoiser, start, levels, noise=sequence([0, 1, 2, 3]))
    assert bool(found.isfinite().all()) and float(found.abs().max()) <= 1


def test_constructors_refuse():
    for make in (
        lambda: AncestralDDPM(variance="learnt"),
        lambda: DDIM(eta=-0.1),
        lambda: DDIM(eta=1.1),
        lambda: Heun(churn=-1.0),
        lambda: Heun(s_noise=0.0),
        lambda: Heun(s_min=2.0, s_max=1.0),
    ):
        with pytest.raises(ValueError, match="got"):
            make()


def test_churn_is_divided_over_the_steps_of_the_list():
    sampler = Heun(churn=5.0)
    assert sampler.start(karras_sigmas(20, 0.01, 80).tolist()) == pytest.approx(0.25)
    assert sampler.start(karras_sigmas(2, 0.01, 80).tolist()) == pytest.approx(2**0.5 - 1)
    with pytest.raises(ValueError, match="memory=start"):
        sampler.step(lambda x, s: None, normal(1, *SHAPE), 1.0, 0.5, None, sequence([0]))
