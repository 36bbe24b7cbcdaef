"""The deep image prior as a state that is stepped."""

import gc
import math

import pytest
import torch
from torch.nn import functional as F

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from networks.untrained.deep_decoder import DeepDecoderArchitecture
from networks.untrained.skip import SkipArchitecture
from restoration.deep_image_prior.adam import IndependentAdam
from restoration.deep_image_prior.fit import DIPFit
from restoration.deep_image_prior.settings import DIPSettings, settings_for, task_of
from restoration.stopping.base import Patience, StoppingCriterion, Verdict, Watch

#: Everything falls by two orders of magnitude within twelve iterations.
SCHEDULED = {
    "learning_rate_schedule": "exponential",
    "jitter_schedule": "cosine",
    "schedule_iterations": 12,
    "jitter_law": "uniform",
    "langevin": 0.1,
}
TINY = {"preset": "small", "channels": [4, 6], "skip": [2, 2], "inputs": 3}


class Never(StoppingCriterion):
    """Keeps the newest averaged output."""

    def watch(self, measurement, *, random, iterations):
        return NeverWatch(measurement)


class NeverWatch(Watch):
    def __init__(self, measurement):
        super().__init__(measurement)
        self.seen = Patience(len(measurement.y), 1, measurement.y.device)

    def update(self, iteration, output, average):
        rows = len(output)
        self.values = {"mean": output.flatten(1).mean(1)}
        return Verdict(torch.ones(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool))

    def reason(self, image):
        return "never"


class Twice(Never):
    """At iteration `at` the target of image `row` becomes y + 1 (reset) or y again from the start (restart)."""

    def __init__(self, *, at: int, row: int, restart: bool) -> None:
        self.at, self.row, self.restart = at, row, restart

    def watch(self, measurement, *, random, iterations):
        return TwiceWatch(measurement, self)


class TwiceWatch(NeverWatch):
    def __init__(self, measurement, options):
        super().__init__(measurement)
        self.options = (options.at, options.row, options.restart)
        if options.restart:
            self.y = measurement.y.clone()
            self.y[options.row] += 0.3

    def update(self, iteration, output, average):
        at, row, restart = self.options
        verdict = super().update(iteration, output, average)
        if iteration != at:
            return verdict
        changed = torch.zeros(len(output), dtype=torch.bool)
        changed[row] = True
        self.y = self.measurement.y.clone()
        if not restart:
            self.y[row] += 0.3
        return Verdict(verdict.improved, verdict.stop, **{"restart" if restart else "reset": changed})


class StopsAt(Never):
    """Stops image i at iteration ends[i]."""

    def __init__(self, *, ends: dict[int, int]) -> None:
        self.ends = ends

    def watch(self, measurement, *, random, iterations):
        return StopsAtWatch(measurement, self.ends)


class StopsAtWatch(NeverWatch):
    def __init__(self, measurement, ends):
        super().__init__(measurement)
        self.ends = torch.tensor([ends[i] for i in measurement.index])

    def update(self, iteration, output, average):
        return Verdict(super().update(iteration, output, average).improved, iteration >= self.ends)


def measurement(
    count: int = 3, size: int = 16, degradation=None, dtype=torch.float64, sigma_255: float = 10
) -> Measurement:
    random = RandomStreams(5)
    x = torch.stack(
        [F.interpolate(random.normal("x", i, 0, (1, 1, 4, 4)), (size, size), mode="bilinear")[0] for i in range(count)]
    ).clamp(-1, 1)
    return measure(
        x.to(dtype),
        degradation=degradation or Identity(),
        noise=GaussianNoise(sigma_255=sigma_255),
        index=[7, 3, 11][:count],
        random=random,
    )


def settings(**changes) -> DIPSettings:
    return DIPSettings(**{"architecture": SkipArchitecture(**TINY), "iterations": 20, "backtrack_every": 5, **changes})


def fitted(m: Measurement, steps: int = 20, stopping=None, fit: DIPFit | None = None, **changes) -> DIPFit:
    fit = fit or DIPFit(m, settings=settings(**changes), stopping=stopping or Never(), random=RandomStreams(0))
    optimizer = fit.optimizer()
    for _ in range(steps):
        fit.losses().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        fit.observe()
    return fit


@pytest.mark.parametrize(
    "degradation",
    [Identity(), RandomMask(removed=0.5), AveragePool(factor=4)],
    ids=["identity", "mask", "super_resolution"],
)
@pytest.mark.parametrize(
    "changes",
    [{}, {"langevin": 0.1}, {"input": "normal", "jitter": 0.0}, SCHEDULED],
    ids=["published", "langevin", "fixed_normal", "scheduled"],
)
def test_20_steps_are_the_same_alone_and_beside_neighbours(degradation, changes):
    m = measurement(degradation=degradation)
    together = fitted(m, **changes)
    for row in (2, 0):
        alone = fitted(m.pick([row]), **changes)
        torch.testing.assert_close(alone.output[0], together.output[row], rtol=0, atol=1e-10)
        torch.testing.assert_close(alone.answer[0], together.answer[row], rtol=0, atol=1e-10)


@pytest.mark.parametrize("changes", [{}, SCHEDULED], ids=["published", "scheduled"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_change_of_target_does_not_touch_the_neighbours(restart, changes):
    m = measurement()
    together = fitted(m, stopping=Twice(at=8, row=1, restart=restart), **changes)
    alone = fitted(m.pick([1]), stopping=Twice(at=8, row=0, restart=restart), **changes)
    torch.testing.assert_close(alone.output[0], together.output[1], rtol=0, atol=1e-10)
    torch.testing.assert_close(fitted(m.pick([2]), **changes).output[0], together.output[2], rtol=0, atol=1e-10)


@pytest.mark.parametrize("changes", [{}, {**SCHEDULED, "langevin": 0.0}], ids=["published", "scheduled"])
def test_a_restarted_fit_is_the_fit_from_the_beginning(changes):
    """The second pass sees the weights, the jitter, the schedules and the optimiser that a fit of the given image alone
    would see.
    """
    m = measurement(1)
    second = fitted(m, steps=20, stopping=Twice(at=8, row=0, restart=True), **changes)
    plain = fitted(m, steps=12, **changes)
    torch.testing.assert_close(second.output, plain.output, rtol=0, atol=0)
    torch.testing.assert_close(second.average, plain.average, rtol=0, atol=0)


@pytest.mark.parametrize("changes", [{"langevin": 0.1}, SCHEDULED], ids=["langevin", "scheduled"])
def test_resuming_goes_on_bit_for_bit(tmp_path, changes):
    m = measurement()
    whole = fitted(m, steps=14, **changes)
    first = fitted(m, steps=6, **changes)
    path = tmp_path / "fit.pt"
    torch.save({"fit": first.state_dict(), "optimizer": first.optimizer().state_dict()}, path)
    state = torch.load(path, weights_only=True)
    again = DIPFit(m, settings=settings(**changes), stopping=Never(), random=RandomStreams(0))
    again.load_state_dict(state["fit"])
    again.optimizer().load_state_dict(state["optimizer"])
    fitted(m, steps=8, fit=again)
    for name in ("output", "average", "answer"):
        assert torch.equal(getattr(whole, name), getattr(again, name)), name
    assert whole.curves() == again.curves()


def test_the_average_is_the_published_recursion():
    m = measurement(1)
    fit = DIPFit(m, settings=settings(averaging=0.9), stopping=Never(), random=RandomStreams(0))
    expected = None
    for _ in range(7):
        fitted(m, steps=1, fit=fit)
        expected = fit.output if expected is None else 0.9 * expected + 0.1 * fit.output
    torch.testing.assert_close(fit.average, expected, rtol=0, atol=1e-12)


def test_the_loss_is_the_mean_over_measured_values_in_unit_range():
    m = measurement(2, degradation=RandomMask(removed=0.5))
    fit = DIPFit(m, settings=settings(), stopping=Never(), random=RandomStreams(0))
    losses = fit.losses()
    mask = m.operator.mask
    for b in range(2):
        residual = ((fit.output - m.y) / 2)[b][mask[b] == 1]
        assert losses[b].item() == pytest.approx(float(residual.square().mean()), rel=1e-12)


def test_backtracking_goes_back_to_the_last_good_weights():
    m = measurement(2)
    fit = fitted(m, steps=5)  # a check at 5
    good = [p.detach().clone() for p in fit.network.parameters()]
    fitted(m, steps=4, fit=fit)
    with torch.no_grad():
        for p in fit.network.parameters():
            p[len(p) // 2 :] *= 40  # the second copy explodes
    fitted(m, steps=1, fit=fit)
    now = list(fit.network.parameters())
    assert all(torch.equal(a[len(a) // 2 :], b[len(b) // 2 :]) for a, b in zip(now, good, strict=True))
    assert not any(
        torch.equal(a[: len(a) // 2], b[: len(b) // 2]) for a, b in zip(now, good, strict=True) if a.ndim > 1
    )


def test_backtracking_counts_in_decibels_of_the_squared_error():
    fit = fitted(measurement(2), steps=5, backtrack_db=6.0)  # a check at 5
    good = [p.detach().clone() for p in fit.network.parameters()]
    with torch.no_grad():
        for p in fit.network.parameters():
            p += 0.1
    fit.target_error = fit.target_error * torch.tensor([10**0.55, 10**0.65])  # risen by 5.5 and by 6.5 dB
    fit._backtrack()
    for now, old in zip(fit.network.parameters(), good, strict=True):
        half = len(now) // 2
        torch.testing.assert_close(now[:half], old[:half] + 0.1)
        assert torch.equal(now[half:], old[half:])


def test_curves_of_an_image_end_where_it_stopped():
    """They would go on as long as its neighbours do, and say something else alone."""
    m = measurement()
    together = fitted(m, stopping=StopsAt(ends={7: 4, 3: 9, 11: 20}))
    for row, end in enumerate((4, 9, 20)):
        alone = fitted(m.pick([row]), steps=end, stopping=StopsAt(ends={7: 4, 3: 9, 11: 20}))
        for name, values in together.curves().items():
            assert values[row][:end] == pytest.approx(alone.curves()[name][0], abs=1e-9), name
            assert len(values[row]) == 20 and all(math.isnan(v) for v in values[row][end:]), name


def test_more_iterations_keep_no_more_tensors():
    """Small ones between the large ones of an iteration keep the allocator from giving those back."""

    def alive():
        gc.collect()
        return sum(type(found) is torch.Tensor for found in gc.get_objects())

    m = measurement(2)
    fit = fitted(m, steps=5)
    after_five = alive()
    fitted(m, steps=30, fit=fit)
    assert fit.iteration == 35 and alive() <= after_five


def test_odd_sizes_are_padded_inside():
    m = measurement(1, size=19)
    assert fitted(m, steps=2).answer.shape == (1, 1, 19, 19)


def test_adam_is_torchs():
    """Of stacked copies, in float64, against one torch.optim.Adam per copy; reseed_rows is a new optimiser."""
    random = RandomStreams(1)
    stacked = torch.nn.Parameter(random.normal("w", 0, 0, (4, 3)).double())
    copies = [torch.nn.Parameter(stacked.detach()[2 * k : 2 * k + 2].clone()) for k in range(2)]
    ours, theirs = IndependentAdam([stacked], lr=0.05, copies=2), [torch.optim.Adam([c], lr=0.05) for c in copies]
    for step in range(8):
        if step == 4:
            ours.reseed_rows([1])
            theirs[1] = torch.optim.Adam([copies[1]], lr=0.05)
        (stacked.sin() * torch.arange(1, 4)).sum().backward()
        ours.step()
        ours.zero_grad()
        for c, optimizer in zip(copies, theirs, strict=True):
            optimizer.zero_grad()
            (c.sin() * torch.arange(1, 4)).sum().backward()
            optimizer.step()
    torch.testing.assert_close(stacked.detach(), torch.cat(copies).detach(), rtol=0, atol=1e-14)


def test_a_scheduled_adam_is_torchs_with_lambda_lr():
    """In float64, one copy reseeded on the way: its schedule begins anew, the other's goes on."""
    random, factor = RandomStreams(1), lambda step: 0.8**step
    stacked = torch.nn.Parameter(random.normal("w", 0, 0, (4, 3)).double())
    copies = [torch.nn.Parameter(stacked.detach()[2 * k : 2 * k + 2].clone()) for k in range(2)]
    ours = IndependentAdam([stacked], lr=0.05, copies=2, factor=factor)

    def scheduled(copy):
        optimizer = torch.optim.Adam([copy], lr=0.05)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    theirs = [scheduled(c) for c in copies]
    for step in range(8):
        if step == 5:
            ours.reseed_rows([1])
            theirs[1] = scheduled(copies[1])
        (stacked.sin() * torch.arange(1, 4)).sum().backward()
        ours.step()
        ours.zero_grad()
        for c, (optimizer, schedule) in zip(copies, theirs, strict=True):
            optimizer.zero_grad()
            (c.sin() * torch.arange(1, 4)).sum().backward()
            optimizer.step()
            schedule.step()
    assert ours.counts() == [8, 3]
    torch.testing.assert_close(stacked.detach(), torch.cat(copies).detach(), rtol=0, atol=1e-14)


def test_jitter_falls_with_its_schedule():
    """The noise on the input in iteration j is that of a constant one times the factor of j."""
    m, options = measurement(1), {"jitter": 0.5}
    seen = {}
    for schedule in ("constant", "cosine"):
        fit = DIPFit(
            m,
            settings=settings(jitter_schedule=schedule, schedule_iterations=6, **options),
            stopping=Never(),
            random=RandomStreams(0),
        )
        kept = seen[schedule] = []
        fit.network.register_forward_pre_hook(lambda _, given, kept=kept, z=fit.z: kept.append(given[0] - z))
        fitted(m, steps=9, fit=fit)
    for j, (plain, falling) in enumerate(zip(seen["constant"], seen["cosine"], strict=True)):
        factor = 0.01 + 0.99 * (1 + math.cos(math.pi * min(j, 6) / 6)) / 2
        torch.testing.assert_close(falling, factor * plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("changes", [{"learning_rate_schedule": "cosine"}, {"jitter_law": "sign"}], ids=["rate", "law"])
def test_what_a_schedule_and_a_law_say_is_done(changes):
    m = measurement(1)
    plain, changed = fitted(m, steps=10), fitted(m, steps=10, **changes)
    assert not torch.allclose(plain.output, changed.output)


def test_wrong_schedules_are_named():
    for wrong, match in (
        ({"learning_rate_schedule": "step"}, "learning_rate_schedule must be one of constant, cosine, exponential"),
        ({"jitter_schedule": "step"}, "jitter_schedule must be one of constant, cosine, exponential, got 'step'"),
        ({"jitter_law": "cauchy"}, "jitter_law must be one of normal, uniform, sign, got 'cauchy'"),
        ({"schedule_iterations": 0}, "schedule_iterations must be at least 1 or null, got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            settings(**wrong)


def test_adam_does_not_mind_how_a_saved_moment_lies_in_memory():
    """Moments of a GPU, or of several networks in one pass, go on beside weights in channels_last, and the other way
    round.
    """
    layouts = [torch.contiguous_format, torch.channels_last]
    found = []
    for of_weights in layouts:
        for of_moments in layouts:
            weights, moments = (
                torch.arange(54.0).view(2, 3, 3, 3).sin().to(memory_format=f) for f in (of_weights, of_moments)
            )
            p = torch.nn.Parameter(weights)
            optimizer = IndependentAdam([p], lr=0.05)
            state = {"first": moments, "second": moments.square(), "step": torch.ones(1)}
            optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: state}})
            p.grad = weights.cos()
            optimizer.step()
            found.append(p.detach().contiguous())
    for other in found[1:]:
        assert torch.equal(other, found[0])


def test_it_fits_and_averaging_denoises():
    m = measurement(1, size=32, dtype=torch.float32, sigma_255=50)
    fit = fitted(
        m,
        steps=150,
        architecture=SkipArchitecture(preset="small", channels=[8, 8, 8], inputs=8),
        iterations=150,
        averaging=0.95,
    )
    error = ((fit.answer - m.truth) / 2).square().mean()
    noise = ((m.y - m.truth) / 2).square().mean()
    assert error < 0.4 * noise
    assert "150 iterations" in fit.reason(0)


def test_settings_by_operator():
    shape = (3, 512, 512)
    assert task_of(Identity().bind({}, shape)) == "denoising"
    assert task_of(AveragePool(factor=4).bind({}, shape)) == "super_resolution_x4"
    assert task_of(AveragePool(factor=8).bind({}, shape)) == "super_resolution_x8"
    chosen = settings_for(AveragePool(factor=4).bind({}, shape))
    assert (chosen.iterations, chosen.jitter, len(chosen.architecture.channels)) == (2000, 0.03, 5)
    assert settings_for(Identity().bind({}, (1, 28, 28))).architecture.least <= 28


def test_a_normal_input_gets_as_much_jitter_for_its_size():
    """With the published number beside an input 3.5 times as wide it restored to 24.6 dB where it has 26.2."""
    operator = Identity().bind({}, (1, 128, 128))
    published = settings_for(operator)
    wider = settings_for(operator, input="normal")
    draws = {name: fitted_input(name) for name in ("uniform", "normal")}
    ratio = float(draws["normal"].std() / draws["uniform"].std())
    assert wider.jitter / published.jitter == pytest.approx(ratio, rel=0.02)
    assert settings_for(operator, input="uniform").jitter == published.jitter
    assert settings_for(operator, input="normal", jitter=0.01).jitter == 0.01
    assert settings_for(operator, architecture=DeepDecoderArchitecture(), input="normal").jitter == 0.0


def fitted_input(kind: str) -> torch.Tensor:
    wide = SkipArchitecture(preset="small", channels=[4, 6], skip=[2, 2], inputs=32)
    chosen = settings(input=kind, architecture=wide)
    return DIPFit(measurement(1, size=32), settings=chosen, stopping=Never(), random=RandomStreams(0)).z


def test_a_deep_decoder_has_a_constant_input_unless_one_says_otherwise():
    """With the task's jitter it restored to 18.1 dB where it has 25.6."""
    denoising = Identity().bind({}, (1, 64, 64))
    decoder = DeepDecoderArchitecture(channels=8, scales=2)
    assert settings_for(denoising, None, decoder).jitter == 0
    assert settings_for(denoising, "denoising", decoder, jitter=0.1).jitter == 0.1
    assert settings_for(denoising, None, SkipArchitecture(**TINY)).jitter == pytest.approx(1 / 30)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"8x8 pixels \(width x height\), and this network needs at least 16 x 16"):
        DIPFit(
            measurement(1, size=8),
            settings=settings_for(Identity().bind({}, (1, 8, 8))),
            stopping=Never(),
            random=RandomStreams(0),
        )
    for wrong in (
        {"averaging": 1.0},
        {"learning_rate": 0.0},
        {"input": "meshgrid"},
        {"learning_rate": math.nan},
        {"jitter": -1.0},
    ):
        with pytest.raises(ValueError):
            settings(**wrong)
