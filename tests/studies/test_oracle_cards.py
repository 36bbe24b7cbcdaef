"""The cards of docs/oracle say what a small run of each method says, and every posterior method has one."""

import math
import sys
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from diffusion.closed_form import ClosedForm
from inference.catalogue import catalogue
from restoration.base import Method
from restoration.posterior import PosteriorSampler
from studies import oracle_cards
from studies.oracle.cases import BUDGETS, CARDS
from studies.oracle.measures import LEVELS, exact_row, measure_samples
from studies.oracle.pages import calibrated
from studies.oracle.run import EXACT, Line, exact_lines, flow_difference, sampled
from studies.oracle.worlds import PRIORS, SHAPE, TASKS, FlowPrior, world

CARDS_FOLDER = Path(__file__).parents[2] / "docs/oracle"
LINES = oracle_cards.read_lines(CARDS_FOLDER / "cards.csv")
SAMPLES = 60
SMALL = [(name, variant, prior) for name, variants in CARDS.items() for variant in variants for prior in PRIORS]


def near(found: Line | None, row, samples: int = SAMPLES) -> None:
    """Within a few errors of means over so few samples."""
    assert found is not None
    for ours, card, slack in (
        # The mean of few samples is as far off as they are spread.
        *((a, b, 0.2 * max(1.0, d)) for a, b, d in zip(row.mean, found.row.mean, found.row.deviation, strict=True)),
        *((a, b, 0.08) for a, b in zip(row.deviation, found.row.deviation, strict=True)),
        *((a, b, 0.05) for a, b in zip(row.coverage, found.row.coverage, strict=True)),
        (row.residual, found.row.residual, 0.02),
        *((a, b, 2 / math.sqrt(samples)) for a, b in zip(row.weights, found.row.weights, strict=True)),
    ):
        assert math.isnan(ours) == math.isnan(card)
        assert math.isnan(ours) or ours == pytest.approx(card, abs=slack, rel=0.12), (row, found)


@pytest.mark.parametrize(("name", "variant", "prior"), SMALL, ids=[f"{n}-{v.words}-{p}" for n, v, p in SMALL])
def test_a_small_run_says_what_the_card_says(name, variant, prior):
    """At the fewest calls of the card, another seed, fewer samples."""
    where = world(prior, variant.tasks[0])
    method = variant.make(where.prior, BUDGETS[0]) or variant.make(where.prior, None)
    calls = method.calls().nfe
    at = (name, variant.words, prior, variant.tasks[0])
    found = [v for v in LINES if (v.method, v.variant, v.prior, v.task) == at]
    assert found, f"docs/oracle/cards.csv lacks {at}: run python -m studies.oracle_cards --methods {name}"
    near(min(found, key=lambda line: abs(line.calls - calls)), sampled(method, where, samples=SAMPLES, seed=9))


def test_every_posterior_method_has_a_card():
    """A sampler of a posterior, and whatever says how far it is from one."""
    for name, cls in catalogue("restoration", Method).items():
        if issubclass(cls, PosteriorSampler) or cls.bias is not None:
            assert name in CARDS, f"restoration/{name}.py needs a line in studies/oracle/cases.py, and its card made"
    assert {path.stem for path in CARDS_FOLDER.glob("*.md")} == {*CARDS, "index"}
    assert {line.method for line in LINES} == {*CARDS, EXACT}
    index = (CARDS_FOLDER / "index.md").read_text()
    assert all(f"[{name}]({name}.md)" in index for name in CARDS)


def test_the_exact_score_says_what_its_rows_say():
    for line in exact_lines(most=20):
        if line.variant == "exact samples":
            assert calibrated(line)
        at = (EXACT, line.variant, line.prior, line.task, line.calls)
        near(next(v for v in LINES if (v.method, v.variant, v.prior, v.task, v.calls) == at), line.row)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("prior", PRIORS)
def test_exact_samples_are_told_from_others(prior, task):
    """Exact ones are calibrated; shifted by a posterior deviation, or half as wide, they are not, by so much."""
    where = world(prior, task)
    drawn = where.posterior.draw(400, torch.Generator().manual_seed(2))

    def row(x):
        return measure_samples((x @ where.basis.T).unflatten(2, SHAPE), where)

    def line(x):
        return Line("any", "", prior, task, 1, 0, False, row(x))

    exact = exact_row(where)
    assert calibrated(line(drawn))
    assert row(drawn).residual == pytest.approx(exact.residual, rel=0.03, abs=1e-6)
    deviation = where.posterior.covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()[:, None]
    shifted, narrow = drawn + deviation, where.posterior.mean[:, None] + (drawn - drawn.mean(1, keepdim=True)) / 2
    assert [m for m in row(shifted).mean if not math.isnan(m)] == pytest.approx(
        [1.0] * sum(not math.isnan(m) for m in exact.mean), abs=0.1
    )
    assert [d for d in row(narrow).deviation if not math.isnan(d)] == pytest.approx(
        [0.5] * sum(not math.isnan(d) for d in exact.deviation), abs=0.05
    )
    assert row(narrow).coverage[1] < 0.75 and row(shifted).coverage[1] < 0.8
    assert not calibrated(line(shifted)) and not calibrated(line(narrow))
    assert row(drawn).coverage == pytest.approx(LEVELS, abs=0.02)


@pytest.mark.parametrize("name", CARDS)
def test_a_flow_with_the_same_levels_gives_the_same_samples(name):
    assert flow_difference(name, samples=1) < 1e-3


def test_the_flow_is_the_prior():
    where = world("gaussian", "half")
    x = where.measurement.y + 3.0
    for own in (False, True):
        flow = FlowPrior(where.prior, own_times=own)
        for sigma in (0.02, 1.0, 50.0):
            level = torch.full((len(x),), sigma, dtype=torch.float64)
            torch.testing.assert_close(flow.predict(x, level).x0, where.prior.predict(x, level).x0, atol=1e-4, rtol=0)
    assert isinstance(where.prior, ClosedForm)
    times = torch.arange(0, 1000, 100)
    assert torch.equal(FlowPrior(where.prior, own_times=False).level_at(times), where.prior.level_at(times))
    assert not torch.equal(FlowPrior(where.prior, own_times=True).level_at(times), where.prior.level_at(times))


def run(monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["studies.oracle_cards", *words])
    oracle_cards.main()


def test_the_command_writes_a_card_and_keeps_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(oracle_cards, "exact_lines", lambda: iter([v for v in LINES if v.method == EXACT]))
    old = [line for line in LINES if line.method in ("ddrm", "one_shot")]
    oracle_cards.write_lines(tmp_path / "cards.csv", old)
    (tmp_path / "index.md").write_text(f"# Mine\n\n{oracle_cards.BEGIN}\nold\n{oracle_cards.END}\n\nafter\n")
    run(monkeypatch, "--methods", "one_shot", "--output", str(tmp_path))
    ours, there = ((f / "one_shot.md").read_text() for f in (tmp_path, CARDS_FOLDER))
    assert ours.startswith("# Oracle's card: one_shot\n") and ours.partition("## ")[2] == there.partition("## ")[2]
    index = (tmp_path / "index.md").read_text()
    assert index.startswith("# Mine") and index.endswith("after\n") and "old" not in index
    assert "[ddrm](ddrm.md)" in index and "[one_shot](one_shot.md)" in index
    again = oracle_cards.read_lines(tmp_path / "cards.csv")
    assert {line.method for line in again} == {EXACT, "ddrm", "one_shot"}
    assert [v.cells() for v in again if v.method == "ddrm"] == [v.cells() for v in old if v.method == "ddrm"]
    assert "one_shot.md" in capsys.readouterr().out
    (tmp_path / "index.md").write_text("# No marks\n")
    with pytest.raises(UserError, match="lacks the marks"):
        run(monkeypatch, "--methods", "one_shot", "--output", str(tmp_path))
    with pytest.raises(UserError, match="did you mean 'ddrm'"):
        run(monkeypatch, "--methods", "ddrn", "--output", str(tmp_path))
