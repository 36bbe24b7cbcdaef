"""Who is first, and whether it is sure: paired differences to the best method, and ranks image by image, in a task and
over all tasks.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from evaluation.report.statistics import Interval, mean_interval, paired_difference
from evaluation.report.tables import Results
from metrics.base import Column


@dataclass(frozen=True)
class Standing:
    """A method in one task.

    Args:
        method: its name.
        rank: among the methods of the task, image by image, 1 for the best, ties share the mean of their ranks; mean
            and interval over images.
        behind: mean over images of how much worse it is than the best method, in the unit of the column; 0 for the
            best one itself.
        is_best: the best mean.
    """

    method: str
    rank: Interval
    behind: Interval
    is_best: bool

    @property
    def is_tie(self) -> bool:
        """Whether nobody can tell it from the best: the paired interval includes 0, or there is none."""
        return not self.is_best and not self.behind.low > 0


@dataclass(frozen=True)
class Overall:
    """A method over all tasks. rank: among the methods that did all of them, image by image, mean over tasks, then mean
    and interval over images; firsts: in how many tasks it has the best mean.
    """

    method: str
    rank: Interval
    firsts: int


def main_column(results: Results) -> Column | None:
    """The column that methods are ranked by: the first whose best end is the highest."""
    return next((c for c in results.columns if c.best > 0), None)


def is_ranked(results: Results, column: Column, *, seed: int) -> bool:
    """Whether any task has two methods to rank."""
    return any(standings(results, task, column, seed=seed) for task in dict.fromkeys(task for task, _ in results.table))


def across_tasks(results: Results, column: Column, *, seed: int) -> tuple[list[Overall], list[str]]:
    """The methods that did every task, the best mean rank first, over the images that all tasks have in common; and
    those that did not. ([], ...) where fewer than two tasks or methods are left.
    """
    tasks = list(dict.fromkeys(task for task, _ in results.per_image))
    values = {task: _per_image(results, task, column) for task in tasks}
    methods = list(dict.fromkeys(method for of_task in values.values() for method in of_task))
    whole = [m for m in methods if all(m in of_task for of_task in values.values())]
    others = [m for m in methods if m not in whole]
    if not column.best or column.of_means is not None or len(tasks) < 2 or len(whole) < 2:
        return [], others
    images = _common([of_task[m] for of_task in values.values() for m in whole])
    if not images:
        return [], others
    table = column.best * np.array([[[of_task[m][i] for i in images] for m in whole] for of_task in values.values()])
    ranks = rankdata(-table, axis=1).mean(0)  # of the tasks of an image, which are not independent of each other
    firsts = table.mean(2).argmax(1)
    found = [Overall(m, _rank(ranks[k], len(whole), seed), int((firsts == k).sum())) for k, m in enumerate(whole)]
    return sorted(found, key=lambda o: o.rank.mean), others


def _common(values: Collection[Mapping[str, float]]) -> list[str]:
    return sorted(set.intersection(*(set(v) for v in values))) if values else []


def standings(results: Results, task: str, column: Column, *, seed: int) -> list[Standing]:
    """The methods of a task from the best mean to the worst, over the images that all of them restored; oracles do not
    compete. [] where the column is no mean of numbers of images, has no best end, or fewer than two methods have it.
    """
    key = (task, column, seed)
    if key not in results.known:
        results.known[key] = _standings(results, task, column, seed)
    return results.known[key]


def _standings(results: Results, task: str, column: Column, seed: int) -> list[Standing]:
    if not column.best or column.of_means is not None:
        return []
    values = _per_image(results, task, column)
    images = _common(values.values())
    if len(values) < 2 or not images:
        return []
    methods = list(values)
    table = column.best * column.factor * np.array([[values[m][i] for i in images] for m in methods])
    ranks = rankdata(-table, axis=0)
    first = int(table.mean(1).argmax())
    found = [
        Standing(
            method=method,
            rank=_rank(ranks[k], len(methods), seed),
            behind=paired_difference(table[first], table[k], seed=seed),
            is_best=k == first,
        )
        for k, method in enumerate(methods)
    ]
    return sorted(found, key=lambda s: (not s.is_best, s.behind.mean))


def ties(results: Results, task: str, column: Column, *, seed: int) -> frozenset[str]:
    """The methods that cannot be told from the best of a column."""
    return frozenset(s.method for s in standings(results, task, column, seed=seed) if s.is_tie)


def _rank(ranks: np.ndarray, methods: int, seed: int) -> Interval:
    """The mean rank; the ends of its interval, which knows no bounds, kept within the ranks that there are."""
    found = mean_interval(ranks, seed=seed)
    low, high = (min(max(end, 1.0), float(methods)) if math.isfinite(end) else end for end in (found.low, found.high))
    return replace(found, low=low, high=high)


def _per_image(results: Results, task: str, column: Column) -> Mapping[str, Mapping[str, float]]:
    """Finite numbers by image, of the methods that compete."""
    found = {}
    for (t, method), metrics in results.per_image.items():
        if t == task and column.name in metrics and method not in results.oracles:
            finite = {i: v for i, v in metrics[column.name].items() if math.isfinite(v)}
            if finite:
                found[method] = finite
    return found
