"""What every criterion promises; a new file in restoration/stopping is tested without being named here."""

import gc
import inspect
import io
import math
import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from stopping_worlds import SIZE, Solver, measured, pictures, run
from torch import Tensor

from common.build import build
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.identity import Identity
from degradations.measurement import Measurement
from degradations.random_mask import RandomMask
from inference.catalogue import catalogue
from restoration.base import Unsupported
from restoration.stopping.base import StoppingCriterion, Verdict, Watch

#: So that everything happens within sixty iterations; for whichever of them a criterion has.
QUICK = {
    "patience": 12,
    "smooth": 4,
    "window": 6,
    "after": 3,
    "iterations": 25,
    "lag": 2,
    "tolerance": 0.3,
    "tau": 1.1,
    "margin": 0.0,
}
CRITERIA = catalogue("restoration/stopping", StoppingCriterion)
LIMIT = 60


def _options(cls: type[StoppingCriterion], **more: Any) -> dict[str, Any]:
    known = inspect.signature(cls).parameters
    return {k: v for k, v in {**QUICK, **more}.items() if k in known}


def _cases() -> dict[str, StoppingCriterion]:
    """Each criterion with its defaults, and with what changes what it does."""
    found = {}
    for name, cls in CRITERIA.items():
        known = inspect.signature(cls).parameters
        found[name] = cls(**_options(cls))
        if "second_pass" in known:
            other = not known["second_pass"].default
            found[f"{name}-second_pass={other}"] = cls(**_options(cls, second_pass=other))
        if "average" in known:
            found[f"{name}-raw"] = cls(**_options(cls, average=False))
        if "levels" in known:
            found[f"{name}-three_levels"] = cls(**_options(cls, levels=[2.0, 1.0, 0.5], kappa=None))
            found[f"{name}-carried"] = cls(**_options(cls, levels=[1.0, 0.5], carry=True))
        if "corrected" in known:
            found[f"{name}-corrected"] = cls(**_options(cls, corrected=True))
        if "robust" in known:
            found[f"{name}-robust"] = cls(**_options(cls, robust=True))
    return found


CASES = _cases()
MEASUREMENTS = {
    "plain": lambda: measured(pictures(3), sigma_255=40),
    "colour": lambda: measured(pictures(1, channels=3), sigma_255=40),
    "mask": lambda: measured(pictures(3), sigma_255=40, degradation=RandomMask(removed=0.4)),
    "average_pool": lambda: measured(pictures(2), sigma_255=40, degradation=AveragePool(factor=2)),
}


def allowed(criterion: StoppingCriterion, m: Measurement) -> bool:
    try:
        criterion.check(m.operator, m.noise)
    except Unsupported as refusal:
        assert str(refusal)
        return False
    return True


@pytest.fixture(autouse=True)
def without_gradients():
    """A fit watches without them, too."""
    with torch.inference_mode():
        yield


@pytest.fixture(params=CASES, ids=str)
def criterion(request) -> StoppingCriterion:
    return CASES[request.param]


def followed(
    criterion: StoppingCriterion, m: Measurement, iterations: int = LIMIT
) -> list[tuple[Verdict, dict[str, Tensor]]]:
    return [(verdict, dict(watch.values)) for _, verdict, watch in run(criterion, m, iterations=iterations)]


@cache
def plain(criterion: StoppingCriterion) -> tuple[Measurement, list[tuple[Verdict, dict[str, Tensor]]]]:
    """The complete measurement, and what the criterion says of it; computed once."""
    m = MEASUREMENTS["plain"]()
    return m, followed(criterion, m)


def same(
    a: list[tuple[Verdict, dict[str, Tensor]]],
    b: list[tuple[Verdict, dict[str, Tensor]]],
    rows: list[int] | None = None,
) -> None:
    """Equal verdicts and values; of these rows of a, where given."""
    assert len(a) == len(b)
    for name in ("improved", "stop", "reset", "restart"):
        first, second = ([getattr(verdict, name) for verdict, _ in found] for found in (a, b))
        assert [v is None for v in first] == [v is None for v in second], name
        if any(v is not None for v in first):
            first, second = (torch.stack([v for v in found if v is not None]) for found in (first, second))
            assert torch.equal(first if rows is None else first[:, rows], second), name
    names = a[0][1].keys()
    assert all(values.keys() == names for found in (a, b) for _, values in found)
    for name in names:
        first, second = (torch.stack([values[name] for _, values in found]) for found in (a, b))
        torch.testing.assert_close(
            first if rows is None else first[:, rows], second, rtol=1e-9, atol=1e-12, equal_nan=True, msg=name
        )


def test_the_catalogue_is_complete():
    assert {"es_wmv", "multi_noise", "oracle", "spectral_bias", "matched_level", "noisier_pair"} <= set(CRITERIA)


@pytest.mark.parametrize("kind", MEASUREMENTS)
def test_verdicts_have_their_shape_and_an_image_that_has_stopped_stays_so(criterion, kind):
    m = MEASUREMENTS[kind]()
    if not allowed(criterion, m):
        pytest.skip("refused, with a sentence")
    count = len(m.y)
    stopped = torch.zeros(count, dtype=torch.bool)
    watch = None
    for iteration, verdict, watch in run(criterion, m, iterations=LIMIT):
        for name in ("improved", "stop", "reset", "restart"):
            mask = getattr(verdict, name)
            assert mask is None if mask is None else (mask.shape, mask.dtype) == ((count,), torch.bool), name
            if mask is not None and name != "stop":
                assert not bool((mask & stopped).any()), f"{name} after the stop, iteration {iteration}"
        assert bool((verdict.stop | ~stopped).all()), "a stop was taken back"
        stopped = verdict.stop.clone()
        assert watch.y.shape == m.y.shape and watch.y.dtype == m.y.dtype
        if watch.weight is not None:
            assert torch.broadcast_shapes(watch.weight.shape, m.y.shape) == m.y.shape
            assert bool(((watch.weight == 0) | (watch.weight == 1)).all())
            assert bool((watch.weight.expand_as(m.y).flatten(1).sum(1) > 0).all())
        assert not watch.signal or watch.signal in watch.values
        for name, value in watch.values.items():
            assert value.shape == (count,) and value.is_floating_point(), name
    for image in range(count):
        reason = watch.reason(image)
        assert reason and not reason.endswith(".") and "\n" not in reason and not re.match(r"[A-Z][a-z]", reason), (
            reason
        )


def test_it_stops_and_has_kept_something(criterion):
    """Within the limit, in a world where noise is fitted in the end; but for those that are known to wait."""
    m, found = plain(criterion)
    stops = torch.stack([v.stop for v, _ in found])
    improved = torch.stack([v.improved for v, _ in found])
    for image in range(len(m.y)):
        if bool(stops[-1, image]):
            assert bool(improved[:, image].any())
            assert int(improved[:, image].nonzero().max()) <= int(stops[:, image].nonzero().min())
    # Here outputs vary less and less, and what shares the measurement's noise never sees that it is fitted.
    if not isinstance(criterion, (CRITERIA["es_wmv"], CRITERIA["noisier_pair"])):
        assert bool(stops[-1].any())


def test_more_iterations_keep_no_more_tensors(criterion):
    """A criterion looks back so far and no further: one tensor kept for each iteration would be twenty here."""
    alive = {}
    for iteration, _, _ in run(criterion, MEASUREMENTS["plain"](), iterations=LIMIT):
        if iteration in (LIMIT - 20, LIMIT):
            gc.collect()
            alive[iteration] = sum(type(found) is torch.Tensor for found in gc.get_objects())
    assert alive[LIMIT] < alive[LIMIT - 20] + 10


@pytest.mark.parametrize("cut", [2, 30])
def test_it_goes_on_from_its_state(criterion, cut):
    m, whole = plain(criterion)
    watch, solver = criterion.watch(m, random=RandomStreams(0), iterations=LIMIT), Solver(m)
    for iteration in range(1, cut + 1):
        solver.follow(watch.update(iteration, *solver.step(watch)))
    taken = watch.state_dict()
    saved = _saved(taken)
    # Going on with the first watch must not change what was taken from it.
    watch.update(cut + 1, m.truth, m.truth)
    assert _equal(_loaded(_saved(taken)), _loaded(saved))
    again = criterion.watch(m, random=RandomStreams(0), iterations=LIMIT)
    again.load_state_dict(_loaded(saved))
    rest = []
    for iteration in range(cut + 1, LIMIT + 1):
        verdict = again.update(iteration, *solver.step(again))
        solver.follow(verdict)
        rest.append((verdict, dict(again.values)))
    same(whole[cut:], rest)


def _saved(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _loaded(content: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(content), weights_only=True)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5)) if a.is_floating_point() else torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("kind", ["plain", "mask"])
def test_an_image_is_the_same_alone_and_beside_others(criterion, kind):
    m = MEASUREMENTS[kind]()
    if not allowed(criterion, m):
        pytest.skip("refused")
    together = plain(criterion)[1] if kind == "plain" else followed(criterion, m)
    same(together, followed(criterion, m.pick([2])), rows=[2])


def test_only_an_oracle_reads_the_truth(criterion):
    m, found = plain(criterion)
    if criterion.uses_truth:
        with pytest.raises(ValueError, match="truth"):
            followed(criterion, m.without_truth(), iterations=1)
    else:
        same(found, followed(criterion, m.without_truth()))


def test_pixels_that_were_not_measured_do_not_count(criterion):
    """Whatever an iterate has there, what is monitored of its residual is the same. Some look at the output itself, or
    at nothing.
    """
    m = MEASUREMENTS["mask"]()
    names = ("es_wmv", "es_emv", "spectral_bias", "oracle")
    if not allowed(criterion, m) or isinstance(criterion, tuple(CRITERIA[n] for n in names)):
        pytest.skip("refused, or of the output")
    found = []
    for filling in (0.0, 0.7):
        watch = criterion.watch(m, random=RandomStreams(0), iterations=LIMIT)
        solver = Solver(m)
        for iteration in range(1, 20):
            output, average = (f * m.operator.mask + filling * (1 - m.operator.mask) for f in solver.step(watch))
            watch.update(iteration, output, average)
        found.append(dict(watch.values))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-9, atol=1e-12, equal_nan=True)


def test_float32_iterates_give_the_same_answer(criterion):
    """Sums are in float64: the iteration of the answer does not depend on the iterates' rounding by more than a step or
    two.
    """
    x = pictures(3)
    single = followed(criterion, measured(x.float(), sigma_255=40))
    _, double = plain(criterion)

    def answers(found):
        improved = torch.stack([v.improved for v, _ in found])
        return [int(improved[:, b].nonzero().max()) if bool(improved[:, b].any()) else -1 for b in range(3)]

    assert all(abs(a - b) <= 2 for a, b in zip(answers(single), answers(double), strict=True))


def test_it_is_built_from_its_description(criterion):
    again = build(criterion.spec, StoppingCriterion, where="stopping")
    assert type(again) is type(criterion) and again.spec["init_args"].items() >= criterion.spec["init_args"].items()
    m = measured(pictures(1), sigma_255=40)
    same(followed(criterion, m, 12), followed(again, m, 12))


def test_watching_draws_nothing_from_the_global_generator(criterion):
    state = torch.random.get_rng_state()
    followed(criterion, measured(pictures(1), sigma_255=40), 5)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", [n for n, c in CRITERIA.items() if "patience" in inspect.signature(c).parameters])
def test_a_patience_below_one_is_a_mistake(name):
    with pytest.raises(ValueError, match="patience"):
        CRITERIA[name](patience=0)


@pytest.mark.parametrize("name", [n for n, c in CRITERIA.items() if "sigma_255" in inspect.signature(c).parameters])
def test_a_sigma_that_is_not_positive_is_a_mistake(name):
    with pytest.raises(ValueError, match="sigma_255"):
        CRITERIA[name](sigma_255=-1.0)


def test_identity_is_allowed(criterion):
    criterion.check(Identity().bind({}, (1, 16, 16)), measured(sigma_255=40).noise)


def test_every_watch_is_a_watch(criterion):
    assert isinstance(criterion.watch(measured(sigma_255=40), random=RandomStreams(0), iterations=10), Watch)


def test_signals_in_float32_are_those_of_float64(criterion):
    """Outputs that settle geometrically, as a fit leaves them: no signal may live from the rounding of single precision
    (ES-WMV squared its window in it). The scale: of the signal, and of the squares that a signal is a difference of.
    """
    exact = measured(pictures(2), sigma_255=40)
    clean, wave = pictures(2), torch.tensor([1.0, -1.0]).double().repeat(SIZE // 2)
    found = {}
    for dtype in (torch.float32, torch.float64):
        single = {k: getattr(exact, k).float().to(dtype) for k in ("y", "truth")}
        watch = criterion.watch(replace(exact, **single), random=RandomStreams(0), iterations=200)
        for j in range(1, 101):
            output = (clean + 0.3 * wave * (-1) ** j * math.exp(-j / 10)).float().to(dtype)
            watch.update(j, output, output)
        found[dtype] = watch.values
    for name, values in found[torch.float64].items():
        torch.testing.assert_close(
            found[torch.float32][name].double(), values.double(), rtol=2e-4, atol=0, equal_nan=True, msg=name
        )
