"""Paired differences to the best, ranks, and the tables to paste."""

import dataclasses
import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.report.paste import escaped, latex, markdown, ranks
from evaluation.report.standings import across_tasks, standings, ties
from evaluation.report.statistics import interval_of_means, mean_interval, paired_difference
from evaluation.report.tables import Results
from metrics.base import Column

PSNR = Column("psnr", "PSNR", "dB", higher_is_better=True)
RMSE = Column("rmse", "RMSE", "", higher_is_better=False, factor=100)


def results(values, *, oracles=(), columns=(PSNR,)) -> Results:
    """values: {method: {metric: [one number per image]}} of one task."""
    per_image = {
        ("t", m): {name: {f"{k:03d}": v for k, v in enumerate(row)} for name, row in metrics.items()}
        for m, metrics in values.items()
    }
    table = {
        key: {name: mean_interval(list(v.values()), seed=0) for name, v in metrics.items()}
        for key, metrics in per_image.items()
    }
    return Results(
        columns=columns,
        table=table,
        per_image=per_image,
        seconds=dict.fromkeys(table, 0.5),
        nfe=dict.fromkeys(table, 10.0),
        sigma={"t": (0.1, 12.75)},
        oracles=frozenset(oracles),
        intervals="percentile bootstrap",
    )


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=60)


def test_a_small_but_constant_lead_is_sure_and_a_large_but_noisy_one_is_not(noise):
    """Images differ by 5 dB: two intervals would say nothing, the paired one does."""
    base = 25 + 5 * noise
    other = np.random.default_rng(1).normal(size=60)
    found = standings(
        results(
            {"b": {"psnr": base - 0.2}, "a": {"psnr": base}, "c": {"psnr": base - 0.05 + 2 * (other - other.mean())}}
        ),
        "t",
        PSNR,
        seed=0,
    )
    assert [s.method for s in found] == ["a", "c", "b"]
    assert [s.is_best for s in found] == [True, False, False]
    assert [s.is_tie for s in found] == [False, True, False]
    assert found[2].behind.mean == pytest.approx(0.2) and found[2].behind.low == pytest.approx(0.2)
    assert found[1].behind == paired_difference(base, base - 0.05 + 2 * (other - other.mean()), seed=0)


def test_ranks_are_image_by_image_and_share_ties():
    values = {"a": [3.0, 1.0, 2.0, 5.0], "b": [2.0, 1.0, 3.0, 4.0], "c": [1.0, 0.0, 1.0, 4.0]}
    found = {s.method: s for s in standings(results({m: {"psnr": v} for m, v in values.items()}), "t", PSNR, seed=0)}
    assert found["a"].rank.mean == pytest.approx((1 + 1.5 + 2 + 1) / 4)
    assert found["b"].rank.mean == pytest.approx((2 + 1.5 + 1 + 2.5) / 4)
    assert found["c"].rank.mean == pytest.approx((3 + 3 + 3 + 2.5) / 4)


def test_no_interval_of_a_rank_leaves_the_ranks():
    values = {"a": [9.0, 9.0, 9.0, 9.0, 9.0, 1.0], "b": [5.0, 5.0, 5.0, 5.0, 5.0, 8.0], "c": [1.0] * 5 + [9.0]}
    found = standings(results({m: {"psnr": v} for m, v in values.items()}), "t", PSNR, seed=0)
    assert all(1 <= s.rank.low <= s.rank.mean <= s.rank.high <= 3 for s in found)


def test_the_lowest_is_best_where_the_metric_says_so_and_in_its_unit():
    values = {"a": {"rmse": [0.02, 0.03, 0.025, 0.02]}, "b": {"rmse": [0.03, 0.04, 0.035, 0.03]}}
    found = standings(results(values, columns=(RMSE,)), "t", RMSE, seed=0)
    assert [s.method for s in found] == ["a", "b"]
    assert found[1].behind.mean == pytest.approx(1.0)  # of 100


def test_who_does_not_compete():
    values = {"a": {"psnr": [1.0, 2.0]}, "oracle": {"psnr": [9.0, 9.0]}, "none": {"psnr": [math.nan, math.nan]}}
    assert standings(results(values, oracles={"oracle"}), "t", PSNR, seed=0) == []
    ratio = dataclasses.replace(PSNR, of_means=lambda means: means[0])
    two = results({"a": {"psnr": [1.0, 2.0]}, "b": {"psnr": [1.0, 2.0]}})
    assert standings(two, "t", ratio, seed=0) == []
    assert standings(two, "t", dataclasses.replace(PSNR, higher_is_better=None), seed=0) == []
    assert ties(two, "t", PSNR, seed=0) == {"b"}


def test_one_image_decides_nothing():
    found = standings(results({"a": {"psnr": [2.0]}, "b": {"psnr": [1.0]}}), "t", PSNR, seed=0)
    assert found[1].is_tie and math.isnan(found[1].behind.low)


def test_images_that_not_all_restored_are_left_out():
    found = standings(results({"a": {"psnr": [1.0, 2.0, 3.0]}, "b": {"psnr": [1.5, 2.5]}}), "t", PSNR, seed=0)
    assert found[0].method == "b" and found[1].behind.n == 2


def plan(**samples):
    methods = defaultdict(lambda: SimpleNamespace(num_samples=1))
    methods.update({name: SimpleNamespace(num_samples=count) for name, count in samples.items()})
    return SimpleNamespace(config=SimpleNamespace(seed=0), methods=methods)


def test_the_tables_to_paste(noise):
    values = {
        "first_one": {"psnr": 25 + noise, "rmse": 0.02 + 0.001 * noise},
        "b|c": {"psnr": 24 + noise, "rmse": 0.02 + 0.001 * np.roll(noise, 1)},
    }
    found = results(values, columns=(PSNR, RMSE))
    text = markdown(plan(), found)
    lines = text.splitlines()
    assert lines[0] == "**t**" and lines[2] == "| method | PSNR (dB) | RMSE | rank by PSNR | s / sample | NFE |"
    mean = interval_of_means([25 + noise], lambda m: m[0], seed=0)
    assert lines[4].startswith(f"| first_one | **{mean.mean:.2f}** [{mean.low:.2f}, {mean.high:.2f}] | ")
    assert lines[5].startswith("| b\\|c | ") and " ≈ [" in lines[5] + lines[4]
    assert all(line.count(" | ") == 5 for line in lines[4:6]) and " | 1.00 [1.00, 1.00] | " in lines[4]
    assert text.rstrip().endswith("has an interval that includes 0.")
    caption = "Means over 60 images{}, seed 0, with 95 % intervals (percentile bootstrap); bold"
    assert caption.format("") in text and caption.format("") in latex(plan(), found)
    assert caption.format(" (samples of each, averaged first: first_one 3)") in markdown(plan(first_one=3), found)
    tex = latex(plan(), found)
    assert tex.count(r"\\") == 3 and tex.count("&") == 3 * 6
    assert r"first\_one & \textbf{" in tex and r"$^{\approx}$" in tex
    assert tex.splitlines()[0].startswith("% ") and r"\begin{tabular}{llrrrrr}" in tex


def test_what_users_wrote_is_escaped_for_latex():
    assert escaped("50%_{a}\\b & c~^") == r"50\%\_\{a\}\textbackslash{}b \& c\textasciitilde{}\textasciicircum{}"


def two_tasks(values, more) -> Results:
    """The results of task t, and of another one with the same methods and images."""
    first, second = results(values), results(more)
    for part in ("table", "per_image", "seconds", "nfe"):
        getattr(first, part).update({("u", m): v for (_, m), v in getattr(second, part).items()})
    return first


def test_the_rank_over_all_tasks_is_that_of_images_in_all_of_them(noise):
    values = {"a": {"psnr": 25 + noise}, "b": {"psnr": 24 + noise}, "c": {"psnr": 23 + noise}}
    more = {"a": {"psnr": 20 + noise}, "b": {"psnr": 24 + noise}, "c": {"psnr": 23 + noise}, "d": {"psnr": 30 + noise}}
    found = two_tasks(values, more)
    overall, others = across_tasks(found, PSNR, seed=0)
    assert others == ["d"]  # in one task alone, and so no rank of the others is above it
    assert [(o.method, o.firsts) for o in overall] == [("b", 1), ("a", 1), ("c", 0)]
    assert [o.rank.mean for o in overall] == [1.5, 2.0, 2.5]
    assert all(o.rank.low == o.rank.mean == o.rank.high for o in overall)  # every image says the same
    text = markdown(plan(), found)
    assert "**all 2 tasks**" in text and "| b | 1.50 [1.50, 1.50] | 1 |" in text
    assert "Not in every task, and so without a rank over all: d." in text
    assert r"all & b &  & 1.50 {\scriptsize [1.50, 1.50]} &  &  \\" in latex(plan(), found)
    lines = ranks(plan(), found).splitlines()
    assert lines[0].startswith("task,method,metric,n,rank") and len(lines) == 1 + 3 + 4 + 3
    assert lines[-3] == ",b,psnr,60,1.5,1.5,1.5,,,"
    assert across_tasks(results(values), PSNR, seed=0) == ([], [])  # of one task the table of it says all


def test_images_of_one_task_alone_do_not_count_over_all():
    found = two_tasks(
        {"a": {"psnr": [1.0, 2.0, 9.0]}, "b": {"psnr": [2.0, 1.0, 1.0]}},
        {"a": {"psnr": [1.0, 1.0]}, "b": {"psnr": [2.0, 2.0]}},
    )
    overall, _ = across_tasks(found, PSNR, seed=0)
    assert [(o.method, o.rank.mean, o.rank.n) for o in overall] == [("b", 1.25, 2), ("a", 1.75, 2)]


def test_a_number_of_few_images_is_marked_in_every_table(noise):
    fid = Column("fid", "FID", "", higher_is_better=False)
    found = results({"a": {"fid": noise}, "b": {"fid": noise + 1}}, columns=(fid,))
    for wanted, marks in ((60, 0), (61, 2)):
        marked = dataclasses.replace(found, wanted={"fid": wanted}, known={})
        assert markdown(plan(), marked).count("†") == latex(plan(), marked).count("dagger") == marks
