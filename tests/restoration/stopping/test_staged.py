"""Stages and the second pass: which verdict comes when, with signals made up for each stage."""

import warnings

import pytest
import torch
from stopping_worlds import measured, pictures
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from networks.untrained.skip import SkipArchitecture
from restoration.deep_image_prior.fit import DIPFit
from restoration.deep_image_prior.settings import DIPSettings
from restoration.dip import run as dip_run
from restoration.stopping.base import Verdict
from restoration.stopping.fixed import FixedIterations
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping
from restoration.stopping.staged import StagedWatch, StageOptions, Target


class Made(StagedWatch):
    """The signal of image b in stage k at age a is |a - best[b][k]|, so that its minimum is known. The target of stage
    k is y + k + 1.
    """

    signal = "made"

    def __init__(
        self,
        best: list[list[int]],
        options: StageOptions,
        iterations: int,
        variances: list[float] | None = None,
        own: float = 1.0,
    ) -> None:
        m = measured(pictures(len(best)), sigma_255=10)
        ones = torch.ones(len(best), dtype=torch.float64)
        stages = len(best[0])
        self._best = torch.tensor([[*b, 0] for b in best], dtype=torch.float64)
        self._seen: list[Tensor] = []
        variances = variances or [1.0] * stages
        targets = [Target(m.y + k + 1, None, v * ones) for k, v in enumerate(variances)]
        super().__init__(m, targets, options, iterations=iterations, own_variance=own * ones)

    def judge(self, f: Tensor) -> dict[str, Tensor]:
        best = self._best.gather(1, self.stage[:, None])[:, 0]
        return {"made": (self.age - best).abs(), "stage": self.stage.double()}

    def target(self) -> list[int]:
        """Which target each image has now: 1, 2, .. of the stages, 0 for the measurement itself."""
        return (self.y - self.measurement.y).flatten(1)[:, 0].round().int().tolist()


def verdicts(watch: Made, until: int) -> list[Verdict]:
    f = watch.measurement.truth
    return [watch.update(iteration, f, f) for iteration in range(1, until + 1)]


def when(found: list[Verdict], name: str, image: int = 0) -> list[int]:
    """The iterations at which `name` of a verdict is True."""
    masks = [getattr(v, name) for v in found]
    return [i for i, mask in enumerate(masks, start=1) if mask is not None and bool(mask[image])]


@pytest.mark.parametrize("smooth", [1, 5, 6])
@pytest.mark.parametrize("kappa", [1.0, 1.25])
def test_one_stage_and_a_second_pass(smooth, kappa):
    """The window that ends at b + floor(smooth / 2) has its middle at b = 20 and the least mean; patience later the
    second pass begins.
    """
    watch = Made([[20]], StageOptions(patience=10, smooth=smooth, kappa=kappa), 200)
    assert watch.target() == [1]
    found = verdicts(watch, 100)
    # an even window has two middles: the first one with the least mean wins
    restart = 20 + smooth // 2 + 10 - (smooth % 2 == 0)
    assert when(found, "restart") == [restart]
    assert int(watch.best[0, 0]) in (20, 19) and (smooth % 2 == 0 or int(watch.best[0, 0]) == 20)
    length = round(kappa * int(watch.best[0, 0]))
    assert int(watch.length[0]) == length
    stopped = when(found, "stop")
    assert stopped[0] == restart + length and stopped == list(range(stopped[0], 101))
    improved = when(found, "improved")
    assert [i for i in improved if i > restart] == list(range(restart + 1, restart + length + 1))
    assert max(i for i in improved if i <= restart) == restart - 10
    assert when(found, "reset") == [] and watch.target() == [0]


def test_without_a_second_pass_the_best_of_the_stage_is_the_answer():
    watch = Made([[20]], StageOptions(patience=10, smooth=5, second_pass=False), 200)
    found = verdicts(watch, 60)
    assert (
        when(found, "restart") == []
        and when(found, "improved")[-1] == 22
        and when(found, "stop") == list(range(32, 61))
    )
    assert watch.target() == [1] and "20" in watch.reason(0)


@pytest.mark.parametrize("second_pass", [False, True])
def test_every_stage_begins_again_with_the_next_target(second_pass):
    watch = Made([[10, 15, 20]], StageOptions(patience=10, smooth=1, second_pass=second_pass, kappa=1.0), 300)
    seen, found = [], []
    for iteration in range(1, 97):
        f = watch.measurement.truth
        found.append(watch.update(iteration, f, f))
        seen.append(watch.target()[0])
    # Each stage takes its best and the patience.
    ends = [20, 45, 75] if second_pass else [20, 45]
    assert when(found, "restart") == ends and when(found, "reset") == []
    assert seen[:19] == [1] * 19 and seen[19:44] == [2] * 25 and seen[44:74] == [3] * 30
    assert watch.best.tolist() == [[10, 15, 20]]
    assert when(found, "stop")[0] == (95 if second_pass else 75)
    assert watch.reason(0).count("10, 15, 20") == 1


def test_carry_goes_on_and_begins_again_for_the_second_pass_alone():
    watch = Made([[10, 15]], StageOptions(patience=10, smooth=1, carry=True, kappa=1.0), 300)
    found = verdicts(watch, 100)
    assert when(found, "reset") == [20] and when(found, "restart") == [45]
    assert when(found, "stop")[0] == 45 + 25  # the sum of the stages' best
    assert when(found, "improved")[-1] == 70
    watch = Made([[10, 15]], StageOptions(patience=10, smooth=1, carry=True, second_pass=False), 300)
    found = verdicts(watch, 100)
    assert when(found, "reset") == [20] and when(found, "restart") == [] and when(found, "stop")[0] == 45


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("smooth", [1, 8])
def test_images_in_different_stages_do_not_influence_each_other(carry, smooth):
    best = [[10, 12], [23, 3], [5, 40], [50, 50]]
    options = StageOptions(patience=10, smooth=smooth, carry=carry, kappa=1.1)
    together = Made(best, options, 140)
    found = verdicts(together, 140)
    for b, own in enumerate(best):
        alone = Made([own], options, 140)
        single = verdicts(alone, 140)
        for name in ("improved", "stop", "reset", "restart"):
            assert when(found, name, b) == when(single, name), (b, name)
        assert together.reason(b) == alone.reason(0)
        for name in ("stage", "begun", "best", "length", "done", "hurried", "lowest"):
            torch.testing.assert_close(getattr(together, name)[b], getattr(alone, name)[0], equal_nan=True)


def test_extrapolation_is_exact_on_a_power_law():
    """j*(v) = 120 v^(-0.3) at variances 2, 1.5, 1.2: the line in log-log gives 120 at 1, but for the rounding of three
    whole numbers.
    """
    variances = [2.0, 1.5, 1.2]
    best = [round(120 * v**-0.3) for v in variances]
    watch = Made([best], StageOptions(patience=5, smooth=1, kappa=None), 900, variances)
    verdicts(watch, sum(best) + 20)
    assert watch.best.tolist() == [best]
    assert abs(int(watch.length[0]) - 120) <= 2


@pytest.mark.parametrize(("best", "ratio"), [([20, 40], 1.5), ([40, 20], 1.0)])
def test_extrapolation_is_clamped(best, ratio):
    """Two numbers of iterations can say anything."""
    watch = Made([best], StageOptions(patience=5, smooth=1, kappa=None), 9000, [2.0, 1.9])
    verdicts(watch, sum(best) + 20)
    assert int(watch.length[0]) == round(ratio * best[-1])


def test_extrapolation_from_one_stage_takes_its_own():
    watch = Made([[20]], StageOptions(patience=5, smooth=1, kappa=None), 900, [2.0])
    verdicts(watch, 40)
    assert int(watch.length[0]) == 20


@pytest.mark.parametrize(
    ("carry", "kappa", "smooth"), [(False, None, 1), (False, 0.5, 1), (False, 3.0, 10), (True, 1.05, 10)]
)
@pytest.mark.parametrize("best", [[20], [10, 60, 12]])
def test_whatever_the_limit_the_given_image_is_fitted_at_last(carry, kappa, best, smooth):
    """And for no more than what is left, with a reason; never for longer than the most that the stages ask for."""
    options = StageOptions(patience=15, smooth=smooth, carry=carry, kappa=kappa)
    variances = [2.0, 1.5, 1.2][: len(best)]
    for limit in [1, 2, 3, 11, 40, 59, 77, 120, 170]:
        watch = Made([best], options, limit, variances)
        found = verdicts(watch, limit)
        restarts = when(found, "restart")
        if limit == 1:
            continue
        assert watch.target() == [0] and restarts, limit
        length, left = int(watch.length[0]), limit - restarts[-1]
        assert 1 <= length <= left, limit
        assert when(found, "stop")[0] == restarts[-1] + length
        assert bool(watch.hurried[0]) == ("limit" in watch.reason(0))


def test_a_limit_in_the_first_pass_shares_what_there_is():
    """Nothing is known yet but the age: the second pass is as long as the first."""
    watch = Made([[500]], StageOptions(patience=100, smooth=10, kappa=1.0), 200)
    found = verdicts(watch, 200)
    (restart,) = when(found, "restart")
    assert 95 <= restart <= 106 and 94 <= int(watch.length[0]) <= 200 - restart
    assert "limit" in watch.reason(0)


def test_a_limit_in_the_patience_after_the_best_leaves_the_second_pass_whole():
    watch = Made([[50]], StageOptions(patience=300, smooth=1, kappa=1.2), 200)
    found = verdicts(watch, 200)
    assert int(watch.length[0]) == 60 and when(found, "restart") == [200 - 61] and when(found, "stop")[0] == 199


def test_a_limit_in_a_middle_stage_goes_to_the_second_pass_at_once():
    """Not through the stages that are left, which would halve what remains again and again; as long as the longest
    stage so far.
    """
    watch = Made([[60, 70, 80, 90]], StageOptions(patience=20, smooth=1, kappa=1.0), 160)
    found = verdicts(watch, 160)
    first, second = when(found, "restart")
    assert first == 80 and int(watch.length[0]) == 60 and second == 160 - 61
    assert watch.best.tolist()[0][0] == 60 and watch.best.tolist()[0][2:] == [0, 0]


def test_the_signal_in_the_second_pass_is_the_last_stages_least():
    watch = Made([[10, 20]], StageOptions(patience=5, smooth=1, kappa=1.0), 300)
    for iteration in range(1, 45):
        f = watch.measurement.truth
        watch.update(iteration, f, f)
    assert watch.stage.tolist() == [2] and watch.values["made"].tolist() == [0.0]


class Ends(Made):
    def ends(self, values: dict[str, Tensor]) -> Tensor:
        return values["made"] < 13


def test_further_reasons_to_end_wait_until_there_is_a_judgement():
    watch = Ends([[20], [100]], StageOptions(patience=50, smooth=11, kappa=1.0), 300)
    found = verdicts(watch, 299)
    assert when(found, "restart", 0) == [11] and when(found, "restart", 1) == [88]
    assert watch.best[:, 0].tolist() == [6, 83]


def test_mistakes():
    for wrong in ({"patience": 0}, {"smooth": 0}, {"kappa": 0.1}, {"kappa": 4.0}):
        with pytest.raises(ValueError):
            StageOptions(**wrong)


@pytest.mark.parametrize("levels", [[0.5], [1.0, 0.5]])
@pytest.mark.parametrize("iterations", [18, 90])
def test_the_answer_of_the_second_pass_is_that_of_a_plain_fit_of_as_many_iterations(levels, iterations):
    """Of a real deep image prior, bit for bit: same weights, jitter, optimiser and average; also where the limit ends
    the first pass.
    """
    m = measured(pictures(2), sigma_255=25)
    settings = DIPSettings(
        architecture=SkipArchitecture(preset="small", channels=[4, 4], skip=[2, 2], inputs=3),
        iterations=iterations,
        averaging=0.8,
    )
    stopping = MultiNoiseEarlyStopping(levels=levels, patience=6, smooth=3, kappa=1.1)
    fit = DIPFit(m, settings=settings, stopping=stopping, random=RandomStreams(0))
    for _ in dip_run(fit):
        pass
    lengths = fit.watch.length.tolist()
    assert all(n >= 1 for n in lengths) and bool(fit.stopped.all())
    for row, length in enumerate(lengths):
        plain = DIPFit(
            m.pick([row]), settings=settings, stopping=FixedIterations(iterations=length), random=RandomStreams(0)
        )
        for _ in dip_run(plain):
            pass
        assert plain.iteration == length
        torch.testing.assert_close(fit.answer[row], plain.answer[0], rtol=0, atol=1e-10)
        assert fit.answer_at(row) == int(fit.stopped_at[row]) <= iterations


def latest(options: StageOptions, levels: int, best: int, iterations: int) -> bool:
    """Whether the last stage is judged at least once, where each fit but a carried one is at its best at `best`."""
    watch = Made([[best if k == 0 or not options.carry else 0 for k in range(levels)]], options, iterations)
    f, judged = watch.measurement.truth, False
    for iteration in range(1, iterations + 1):
        watch.update(iteration, f, f)
        judged |= int(watch.stage[0]) == levels - 1 and iteration - int(watch.begun[0]) >= options.smooth
    return judged


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("second_pass", [False, True])
@pytest.mark.parametrize("levels", [2, 3])
def test_iterations_that_never_reach_the_last_level_are_refused(levels, second_pass, carry):
    """What is refused would never be judged at the last level, however early each fit is at its best; the number that
    the sentence asks for is enough.
    """
    options = StageOptions(patience=10, smooth=6, kappa=1.25, carry=carry, second_pass=second_pass)
    enough = next(n for n in range(2, 500) if not refused(options, levels, n))
    assert refused(options, levels, enough - 1).endswith(f"give at least {enough} iterations, or fewer levels")
    assert not latest(options, levels, 0, enough - 1)
    assert latest(options, levels, 0, enough)


def refused(options: StageOptions, levels: int, iterations: int) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            options.check_levels(levels, iterations)
        except UserError as error:
            return str(error)
    return ""


@pytest.mark.parametrize("carry", [False, True])
def test_iterations_that_hardly_reach_the_last_level_are_warned_about(carry):
    """The iteration that the warning names is the last at which the earlier fits may be at their best."""
    options = StageOptions(patience=10, smooth=5, kappa=1.0, carry=carry)
    with pytest.warns(UserWarning, match=r"the last of 3 levels is reached only where .* iteration \d+ .*give") as said:
        options.check_levels(3, 200)
    named = int(str(said[0].message).split(" iteration ")[1].split()[0])
    assert latest(options, 3, named, 200) and not latest(options, 3, named + 1, 200)


def test_what_is_enough_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StageOptions().check_levels(1, 40)
        StageOptions(patience=150).check_levels(3, 2400)
