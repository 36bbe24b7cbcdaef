"""Ours: which target is fitted when, what is monitored, and the length of the second pass."""

import numpy as np
import pytest
import torch
from stopping_worlds import at, follow, gains, noisy, smooth, unbiased

from common.image_range import to_uint8
from common.random_streams import RandomStreams
from degradations.identity import IdentityOperator
from degradations.noise import GaussianNoise
from diffusion.schedules import Cosine, Linear
from metrics.distortion import ssim
from restoration.base import Unsupported
from restoration.stopping.fixed import FixedIterations
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping
from restoration.stopping.sure import SURE

QUICK = {"patience": 15, "smooth": 5}


def eps_of(measurement, stage: int, seed: int = 0) -> torch.Tensor:
    return (
        RandomStreams(seed)
        .normal_batch(f"injected_{stage}", measurement.index, [0] * len(measurement.y), measurement.y.shape[1:])
        .double()
    )


def minima(risk: list[float], smooth: int, patience: int) -> tuple[int, int]:
    """(best, end) of one stage by the definition: the middle of the window with the least mean, and when it had been so
    for long enough.
    """
    least, best = float("inf"), 0
    for j in range(smooth, len(risk) + 1):
        mean = float(np.mean(risk[j - smooth : j]))
        if mean < least:
            least, best = mean, j
        if j - best >= patience:
            return best - smooth // 2, j
    raise AssertionError("no end")


def test_one_level_and_the_measurement():
    """Fits y + sigma / 2 eps to the least of the risk, then y itself for 1.05 times as long: the answer is that of a
    plain fit of that length, exactly.
    """
    measurement = noisy(3)
    found = follow(MultiNoiseEarlyStopping(**QUICK), measurement, iterations=220)
    eps = eps_of(measurement, 0)
    for image in range(3):
        (restart,) = at([v.restart for v in found.verdicts], image)
        f, y, e = torch.stack(found.averages)[:restart, image], measurement.y[image], eps[image]
        r = (f - y - 0.1 * e).square().flatten(1).mean(1) / 4
        d = ((f - y) * e).flatten(1).mean(1) / 0.1
        variance = (0.2**2 + 0.1**2) / 4
        risk = r + 2 * variance * d - variance
        assert torch.allclose(risk, torch.stack([v["risk"][image] for v in found.values[:restart]]))
        assert torch.allclose(d, torch.stack([v["leak"][image] for v in found.values[:restart]]))
        best, end = minima(risk.tolist(), 5, 15)
        assert restart == end and int(found.stopped_at[image]) == end + round(1.05 * best) == int(found.kept_at[image])
        plain = follow(FixedIterations(iterations=round(1.05 * best)), measurement, iterations=round(1.05 * best))
        assert torch.equal(found.answer[image], plain.answer[image])
        assert f"at iteration {best} " in found.watch.reason(
            image
        ) and f"for {round(1.05 * best)} iterations" in found.watch.reason(image)


def test_targets_from_coarse_to_fine_and_what_is_told_of_them():
    """y + s_k eps_k, not clipped, each with noise of its own; at last y. Residual, PSNR and SSIM are to the present
    target.
    """
    measurement = noisy(1, sigma=0.3)
    random = RandomStreams(0)
    watch = MultiNoiseEarlyStopping(levels=[3, 1, 0.25], kappa=1.0, **QUICK).watch(
        measurement, random=random, iterations=2000
    )
    seen = [watch.y]
    f = 0.5 * measurement.truth
    for iteration in range(1, 2001):
        before = watch.y
        # Anything whose risk rises with time.
        verdict = watch.update(iteration, f, f + 0.01 * iteration)
        if iteration in (1, 26):
            residual = (f + 0.01 * iteration - before).square().mean() / 4
            assert torch.allclose(watch.values["residual"], residual) and torch.allclose(
                watch.values["psnr_to_target"], -10 * residual.log10()
            )
            assert torch.equal(watch.values["ssim_to_target"], ssim(to_uint8(f + 0.01 * iteration), to_uint8(before)))
        if not torch.equal(before, watch.y):
            seen.append(watch.y)
        if bool(verdict.stop):
            break
    expected = [measurement.y + s * 0.3 * eps_of(measurement, k) for k, s in enumerate((3, 1, 0.25))]
    assert len(seen) == 4 and all(
        torch.allclose(a, b, atol=1e-6) for a, b in zip(seen, [*expected, measurement.y], strict=True)
    )
    assert float(seen[0].abs().max()) > 1.5 and watch.values["stage"].tolist() == [3.0]


def test_levels_of_a_schedule():
    """times name s = sqrt((1 - abar) / abar), the ratio of noise to picture in x_t."""
    measurement = noisy(1)
    for schedule in (None, Cosine(steps=500)):
        bars = (schedule or Linear()).alphas_bar
        watch = MultiNoiseEarlyStopping(times=[60, 20], schedule=schedule).watch(
            measurement, random=RandomStreams(0), iterations=10
        )
        level = float(((1 - bars[60]) / bars[60]).sqrt())
        assert torch.allclose(watch.y, measurement.y + level * eps_of(measurement, 0), atol=1e-6)


def test_carried_weights_are_reset_then_begin_again():
    found = follow(MultiNoiseEarlyStopping(levels=[1, 0.5], carry=True, kappa=1.0, **QUICK), noisy(2), iterations=400)
    for image in range(2):
        resets, restarts = (at([getattr(v, name) for v in found.verdicts], image) for name in ("reset", "restart"))
        assert len(resets) == len(restarts) == 1 and resets < restarts
        assert int(found.stopped_at[image]) == restarts[0] + int(found.watch.best[image].sum())


def test_the_risk_counts_what_earlier_stages_left():
    """f = (S_1 (y + s_1 e_1) + S_2 (y + s_2 e_2)) / 2 in stage 2: the mean of risk - error over 600 noises is 0 with
    the first leak, and not without it.
    """
    measurement = noisy(600)
    criterion = MultiNoiseEarlyStopping(levels=[2, 0.5], carry=True, smooth=1, patience=1)
    watch = criterion.watch(measurement, random=RandomStreams(0), iterations=1000)
    coarse = watch.y
    for iteration in range(1, 4):
        rising = measurement.truth * (1 + iteration)
        watch.update(iteration, rising, rising)
    assert set(watch.stage.tolist()) == {1}
    f = (smooth(coarse, gains(20)) + smooth(watch.y, gains(20))) / 2
    watch.update(4, f, f)
    error = (f - measurement.truth).square().flatten(1).mean(1) / 4
    unbiased(watch.values["risk"], error)
    left = ((f - measurement.y) * eps_of(measurement, 0)).flatten(1).mean(1) / 0.4
    with pytest.raises(AssertionError):
        unbiased(watch.values["risk"] - 2 * 0.01 * left, error)


def test_without_carrying_every_stage_begins_again():
    found = follow(MultiNoiseEarlyStopping(levels=[1, 0.5], **QUICK), noisy(1), iterations=400)
    assert len(at([v.restart for v in found.verdicts])) == 2 and not at([v.reset for v in found.verdicts])


def test_extrapolation_is_exact_on_a_power_law():
    """Best iterations j = a (sigma^2 + s^2)^-p, put there by outputs y + (|age - j| + 1) v with v orthogonal to the
    known noise: the second pass is as long as the law says for s = 0.
    """
    measurement = noisy(1)
    levels, sigma, power = [2.0, 1.0, 0.5], 0.2, 0.3
    best = [round(60 * (1 + s * s) ** -power) for s in levels]
    watch = MultiNoiseEarlyStopping(levels=levels, smooth=1, patience=5, kappa=None).watch(
        measurement, random=RandomStreams(0), iterations=1000
    )
    noises = torch.stack([eps_of(measurement, k).flatten() for k in range(3)])
    v = torch.randn(256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    v = (v - noises.T @ torch.linalg.lstsq(noises.T, v[:, None]).solution[:, 0]).view(1, 1, 16, 16)
    stage = begun = iteration = 0
    restarts = []
    while stage < 3:
        iteration += 1
        f = measurement.y + 0.01 * (abs(iteration - begun - best[stage]) + 1) * v
        if bool(watch.update(iteration, f, f).restart):
            restarts.append(iteration)
            stage, begun = stage + 1, iteration
    assert np.diff([0, *restarts]).tolist() == [b + 5 for b in best] and watch.best.tolist() == [best]
    line = np.polyfit(np.log([sigma**2 * (1 + s * s) for s in levels]), np.log(best), 1)
    length = round(float(np.exp(np.polyval(line, np.log(sigma**2)))))
    assert int(watch.length[0]) == length and abs(length - 60) <= 1
    for _ in range(length):
        iteration += 1
        verdict = watch.update(iteration, measurement.y, measurement.y)
        assert bool(verdict.stop) == (iteration == restarts[-1] + length)


@pytest.mark.parametrize(("limit", "value"), [("leak_limit", "leak"), ("residual_limit", "residual")])
def test_limits_end_a_stage(limit, value):
    """The first iteration, of those that are judged, whose leak is above a tenth or whose residual is below 0.9 of its
    noise.
    """
    bound = 0.1 if limit == "leak_limit" else 0.9
    found = follow(MultiNoiseEarlyStopping(patience=500, smooth=5, **{limit: bound}), noisy(2), iterations=300)
    scale = 1.0 if limit == "leak_limit" else (0.2**2 + 0.1**2) / 4
    for image in range(2):
        curve = torch.stack([v[value][image] for v in found.values])
        beyond = curve > bound if limit == "leak_limit" else curve < bound * scale
        first = int(beyond[4:].int().argmax()) + 5
        assert at([v.restart for v in found.verdicts], image) == [first]


def test_the_given_level_counts():
    measurement = noisy(1)
    watch = MultiNoiseEarlyStopping(sigma_255=51.0).watch(measurement, random=RandomStreams(0), iterations=10)
    assert torch.allclose(watch.y, measurement.y + 0.2 * eps_of(measurement, 0), atol=1e-6)


def test_the_answer_of_a_single_pass_is_of_the_noisier_copy():
    """SURE is the first stage alone: its answer is the iterate at the least of the smoothed risk."""
    measurement = noisy(2)
    alone = follow(SURE(**QUICK), measurement, iterations=200)
    both = follow(MultiNoiseEarlyStopping(**QUICK), measurement, iterations=200)
    for image in range(2):
        end = int(alone.stopped_at[image])
        assert at([v.restart for v in both.verdicts], image) == [end] and not at(
            [v.restart for v in alone.verdicts], image
        )
        assert int(alone.kept_at[image]) == end - 15
        assert torch.equal(alone.answer[image], alone.averages[end - 16][image])
    assert "measurement" not in alone.watch.reason(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [0.5, 1.0]}, "fall"),
        ({"levels": [1.0, 0.0]}, "positive"),
        ({"times": [10, 20]}, "fall"),
        ({"times": [1000]}, "times"),
        ({"times": []}, "times"),
        ({"times": [10], "levels": [1.0]}, "either"),
        ({"schedule": Linear()}, "either"),
        ({"sigma_255": 0.0}, "sigma_255"),
        ({"leak_limit": 1.5}, "leak_limit"),
        ({"residual_limit": 0.0}, "residual_limit"),
        ({"patience": 0}, "patience"),
        ({"smooth": 0}, "smooth"),
        ({"kappa": 5.0}, "kappa"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        MultiNoiseEarlyStopping(**options)


@pytest.mark.parametrize("criterion", [MultiNoiseEarlyStopping(), SURE()])
def test_an_unknown_level_is_refused_where_it_cannot_be_estimated(criterion):
    with pytest.raises(Unsupported, match="sigma_255"):
        criterion.check(IdentityOperator((1, 4, 4)), GaussianNoise(sigma=0))
    criterion.check(IdentityOperator((1, 4, 4)), GaussianNoise(sigma=0.1))
