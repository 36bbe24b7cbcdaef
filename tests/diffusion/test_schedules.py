import math

import pytest
import torch

from common.build import build
from common.errors import UserError
from diffusion.schedules import (
    Cosine,
    Linear,
    ScaledLinear,
    Schedule,
    SigmoidAlphaBar,
    SigmoidBeta,
    Tabulated,
    ZeroTerminalSNR,
)

# Reference sheet 1.1, computed there from the definitions; given to the digits that are written.
TABLE = {
    Linear: {
        0: 0.0100005,
        100: 0.34226,
        250: 0.95803,
        500: 3.44297,
        750: 17.3786,
        900: 60.822,
        998: 155.825,
        999: 157.407,
    },
    Cosine: {
        0: 0.006425,
        100: 0.17104,
        250: 0.42684,
        500: 1.01555,
        750: 2.44628,
        900: 6.42993,
        998: 641.66,
        999: 20291,
    },
    SigmoidAlphaBar: {
        0: 0.017331,
        100: 0.20412,
        250: 0.42031,
        500: 1.00332,
        750: 2.39781,
        900: 4.96473,
        998: 57.70,
        999: 1824.9,
    },
}
LAST_ALPHA_BAR = {Linear: 4.0358e-5, Cosine: 2.43e-9, SigmoidAlphaBar: 3.003e-7}
FIRST_BETA = {Linear: 1e-4, Cosine: 4.128e-5, SigmoidAlphaBar: 3.0027e-4}
# The index nearest to that signal-to-noise ratio (the first below it is one more where SNR = 1).
AT_SNR = {Linear: {5: 130, 1: 258}, Cosine: {5: 261, 1: 495}, SigmoidAlphaBar: {5: 266, 1: 499}}
# The level of an image with noise of standard deviation s on the 0..255 scale: sigma = 2 s / 255.
NOISY_IMAGE = {
    Linear: [8, 20, 32, 56, 114, 167, 214],
    Cosine: [17, 42, 67, 116, 231, 332, 418],
    SigmoidAlphaBar: [4, 18, 40, 94, 232, 342, 426],
}
BETA_FORMS = [Linear, ScaledLinear, SigmoidBeta]

known = pytest.mark.parametrize("kind", [Linear, Cosine, SigmoidAlphaBar])
every = pytest.mark.parametrize("kind", [Linear, Cosine, ScaledLinear, SigmoidAlphaBar, SigmoidBeta])


@known
def test_the_reference_numbers(kind):
    schedule = kind()
    for t, sigma in TABLE[kind].items():
        assert float(schedule.sigmas[t]) == pytest.approx(sigma, rel=1e-4)
    assert float(schedule.alphas_bar[-1]) == pytest.approx(LAST_ALPHA_BAR[kind], rel=2e-3)
    assert float(schedule.betas[0]) == pytest.approx(FIRST_BETA[kind], rel=2e-4)
    for snr, index in AT_SNR[kind].items():
        assert round(float(schedule.time_of(torch.tensor(snr, dtype=torch.float64).rsqrt()))) == index


@known
def test_times_of_noisy_images(kind):
    sigma = 2 * torch.tensor([5, 10, 15, 25, 50, 75, 100], dtype=torch.float64) / 255
    assert kind().time_of(sigma).round().tolist() == NOISY_IMAGE[kind]


@every
def test_definitions(kind):
    schedule = kind()
    torch.testing.assert_close(schedule.alphas_bar, (1 - schedule.betas).cumprod(0), rtol=1e-11, atol=0)
    torch.testing.assert_close(schedule.alphas_bar, 1 / (1 + schedule.sigmas.square()), rtol=1e-12, atol=0)
    assert bool((schedule.sigmas.diff() > 0).all())
    time = torch.tensor([0, 17, 999])
    assert torch.equal(schedule.alpha_bar_of(time), schedule.alphas_bar[time])


def test_cosine_clips_one_beta():
    assert int((Cosine().betas == 0.999).sum()) == 1
    u = 0.5
    f = [math.cos((v + 0.008) / 1.008 * math.pi / 2) ** 2 for v in (u, 0)]
    # alpha_bar_i = f((i + 1) / T) / f(0)
    assert float(Cosine().alphas_bar[499]) == pytest.approx(f[0] / f[1], rel=1e-10)


def test_sigmoid_is_its_definition():
    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    for start, end, tau in ((-3.0, 3.0, 1.0), (0.0, 3.0, 0.7)):
        schedule = SigmoidAlphaBar(start=start, end=end, tau=tau)
        for t in (0, 400, 900):
            u = (t + 1) / 1000
            expected = (sigmoid(end / tau) - sigmoid((u * (end - start) + start) / tau)) / (
                sigmoid(end / tau) - sigmoid(start / tau)
            )
            assert float(schedule.alphas_bar[t]) == pytest.approx(expected, rel=1e-10)


def test_linear_keeps_its_noise_for_other_lengths():
    # -log alpha_bar is about sum(beta + beta^2 / 2): the first part does not depend on T once both ends are scaled by
    # 1000 / T, the second falls as 1 / T.
    last = {steps: float(Linear(steps=steps).alphas_bar[-1].log()) for steps in (500, 1000, 2000, 4000)}
    assert last[1000] == pytest.approx(-10.05, abs=0.1)  # (1e-4 + 0.02) / 2 * 1000
    assert (last[500] - last[1000]) / (last[1000] - last[2000]) == pytest.approx(2, rel=0.02)
    assert (last[1000] - last[2000]) / (last[2000] - last[4000]) == pytest.approx(2, rel=0.02)


def test_refusals():
    with pytest.raises(ValueError, match="use more steps"):
        Linear(steps=20)
    Linear(steps=21)
    for kind in (Linear, Cosine, ScaledLinear, SigmoidAlphaBar, SigmoidBeta):
        for steps in (1, 0):
            with pytest.raises(ValueError, match=f"at least 2, got {steps}"):
                kind(steps=steps)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        Schedule(betas=torch.tensor([0.1, float("nan")]))
    for options in ({"start": 3.0}, {"tau": 0.0}, {"end": float("inf")}):
        with pytest.raises(ValueError, match="start must be less than end and tau positive"):
            SigmoidAlphaBar(**options)
    with pytest.raises(ValueError, match="fewer steps than 80000"):
        ZeroTerminalSNR(schedule=Linear(steps=80000))


@every
@pytest.mark.parametrize("steps", [50, 1000, 4000])
def test_time_of_is_exact_on_the_table(kind, steps):
    schedule = kind(steps=steps)
    times = torch.arange(steps, dtype=torch.float64)
    assert torch.equal(schedule.time_of(schedule.sigmas), times)
    # Also after rounding to float32, in which images and levels travel.
    assert torch.equal(schedule.time_of(schedule.sigmas.float()), times)


@every
def test_round_trip_between_the_entries(kind):
    schedule = kind()
    time = torch.linspace(0, 999, 3334, dtype=torch.float64)
    # times within 1e-4 of an entry are that entry
    torch.testing.assert_close(schedule.time_of(schedule.sigma_of(time)), time, rtol=0, atol=1e-4)
    halfway = schedule.sigma_of(torch.tensor([499.5], dtype=torch.float64))
    # linear in log sigma
    assert float(halfway) == pytest.approx(float((schedule.sigmas[499] * schedule.sigmas[500]).sqrt()), rel=1e-12)


def test_time_of_clamps_and_sigma_of_refuses():
    schedule = Linear()
    assert schedule.time_of(torch.tensor([1e-9, 1e9])).tolist() == [0, 999]
    for time in (-0.5, 999.5):
        with pytest.raises(ValueError, match=r"0 \.\. 999"):
            schedule.sigma_of(torch.tensor([time]))


def test_a_schedule_describes_itself():
    assert Cosine(steps=50).spec == {"class_path": "diffusion.schedules.Cosine", "init_args": {"steps": 50}}


NAMES = {Linear: "linear", Cosine: "squaredcos_cap_v2", ScaledLinear: "scaled_linear", SigmoidBeta: "sigmoid"}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("kind", NAMES)
def test_parity_with_diffusers(kind, zero):
    from diffusers import DDPMScheduler

    ends = {"beta_start": 0.00085, "beta_end": 0.012} if kind is ScaledLinear else {}
    other = DDPMScheduler(beta_schedule=NAMES[kind], rescale_betas_zero_snr=zero, **ends)
    own = ZeroTerminalSNR(schedule=kind()) if zero else kind()
    # float32 product of a thousand factors: about 1000 * 6e-8; where the last root is subtracted, that much of the
    # root.
    root = own.alphas_bar.sqrt().float()
    torch.testing.assert_close(root[:-1], other.alphas_cumprod.sqrt()[:-1], rtol=1e-4, atol=1e-5)
    assert float(root[-1]) == pytest.approx(
        float(other.alphas_cumprod[-1].sqrt()), abs=2.0**-12 + 1e-5 if zero else 1e-5
    )


@every
def test_zero_terminal_snr(kind):
    """Algorithm 1 of Lin et al.: the roots are an affine function of the old ones, the first stays, the last is 0."""
    old, new = kind(), ZeroTerminalSNR(schedule=kind())
    root, moved = old.alphas_bar.sqrt(), new.alphas_bar.sqrt()
    assert float(new.alphas_bar[-1]) == 0 and float(new.betas[-1]) == 1 and new.ends_in_noise and not old.ends_in_noise
    assert float(moved[0]) == pytest.approx(float(root[0]), rel=1e-14)
    slope = root[0] / (root[0] - root[-1])
    torch.testing.assert_close(moved, slope * (root - root[-1]), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close((1 - new.betas).cumprod(0), new.alphas_bar, rtol=1e-9, atol=0)
    # Finite levels everywhere, in order; the last stands for an infinite one.
    torch.testing.assert_close(new.sigmas[:-1], ((1 - new.alphas_bar) / new.alphas_bar).sqrt()[:-1], rtol=1e-9, atol=0)
    assert float(new.sigmas[-1]) == 2**20 and bool((new.sigmas.diff() > 0).all())
    assert torch.equal(new.time_of(new.sigmas.float()), torch.arange(1000, dtype=torch.float64))
    torch.testing.assert_close(ZeroTerminalSNR(schedule=new).alphas_bar, new.alphas_bar, rtol=1e-9, atol=0)


def test_a_nested_schedule_is_built_again():
    schedule = ZeroTerminalSNR(schedule=SigmoidAlphaBar(steps=500, tau=0.9))
    again = build(schedule.spec, Schedule, where="schedule", project_only=True)
    assert torch.equal(again.alphas_bar, schedule.alphas_bar)
    # with its defaults
    assert again.spec["init_args"]["schedule"]["init_args"] == {"steps": 500, "start": -3.0, "end": 3.0, "tau": 0.9}
    # What is inside is as little trusted as what is outside.
    for inner, match in (
        ("subprocess.Popen", "not one of this project's own"),
        ("diffusion.schedules.Linear", "use more steps"),
    ):
        spec = {
            "class_path": "diffusion.schedules.ZeroTerminalSNR",
            "init_args": {"schedule": {"class_path": inner, "init_args": {"steps": 9}}},
        }
        with pytest.raises(UserError, match=match):
            build(spec, Schedule, where="schedule", project_only=True)


def test_tabulated_is_what_is_given():
    betas = [1e-4, 0.3, 0.5]
    schedule = Tabulated(betas=betas)
    torch.testing.assert_close(
        schedule.alphas_bar, torch.tensor([1 - b for b in betas], dtype=torch.float64).cumprod(0)
    )
    assert schedule.spec["init_args"] == {"betas": betas}
    torch.testing.assert_close(Tabulated(betas=Linear().betas.tolist()).sigmas, Linear().sigmas, rtol=0, atol=0)
    for wrong in ([0.1], [0.1, 1.0], [0.0, 0.1]):
        with pytest.raises(ValueError):
            Tabulated(betas=wrong)
