"""A card as a page, and the table over all methods."""

import inspect
import math
from collections.abc import Iterable, Sequence

from restoration.base import Method
from studies.oracle.measures import Row, exact_row
from studies.oracle.run import EXACT, OWN_TIMES, Line
from studies.oracle.worlds import TASKS, world

#: What a row that is called calibrated is within, in the units of the card.
MEAN, DEVIATION, COVERAGE, WEIGHT = 0.25, (0.9, 1.1), (0.87, 0.93), 0.15
HEAD = ("rule", "calls", "mean", "spread", "50 / 90 / 95 %", "residual")
PRIOR_WORDS = {"gaussian": "Gaussian prior", "mixture": "Mixture of two"}


def calibrated(line: Line) -> bool:
    """Whether mean, spread, coverage of 90 % and weights of the modes are near those of the posterior."""
    row, exact = line.row, exact_row(world(line.prior, line.task))
    near = all(m <= MEAN for m in _known(row.mean))
    near = near and all(DEVIATION[0] <= d <= DEVIATION[1] for d in _known(row.deviation))
    near = near and COVERAGE[0] <= row.coverage[1] <= COVERAGE[1]
    return near and all(abs(a - b) <= WEIGHT for a, b in zip(row.weights, exact.weights, strict=True))


def card(name: str, cls: type[Method], lines: Sequence[Line], difference: float, reference: Iterable[Line]) -> str:
    """docs/oracle/NAME.md."""
    words = (inspect.getdoc(cls) or "").split("\n\n")[0]
    parts = [
        f"# Oracle's card: {name}\n",
        "\n".join(f"    {line}" for line in words.splitlines()) + "\n",
        f"[How to read this](index.md). {_known_bias(cls)}\n",
        f"{_verdict(lines)}\n",
    ]
    places = list(dict.fromkeys((line.prior, line.task) for line in lines))
    for prior, task in places:
        here = [line for line in lines if (line.prior, line.task) == (prior, task)]
        order = list(dict.fromkeys(line.variant for line in here))
        here.sort(key=lambda line: (order.index(line.variant), line.calls))
        exact = exact_row(world(prior, task))
        two = bool(exact.weights)
        head = (*HEAD, "weight of the first mode") if two else HEAD
        rows = [("exact", "", *_numbers(exact))]
        rows += [
            (line.variant, _cost(line), *_numbers(line.row))
            for line in reference
            if (line.prior, line.task) == (prior, task)
        ]
        rows += [(line.variant or "default", _calls(line), *_numbers(line.row)) for line in here]
        parts += [f"## {PRIOR_WORDS[prior]}, {TASKS[task].words}\n", markdown(head, rows)]
    parts.append(
        "The same prior as a flow, at the same levels and with the same noise, gives the same samples: the largest"
        f" difference of a pixel is {difference:.1g} of the posterior's standard deviation (20 calls, or the defaults"
        " where they are fewer).\n"
    )
    return "\n".join(parts)


def overview(lines: Sequence[Line], names: Sequence[str]) -> str:
    """The table over methods: at 100 calls where a method can, else its defaults."""
    rows = []
    for name in (EXACT, *names):
        own = [line for line in lines if line.method == name and line.variant != OWN_TIMES]
        for variant in dict.fromkeys(line.variant for line in own):
            here = [line for line in own if line.variant == variant]
            task = here[0].task
            shown = {prior: _at_100([v for v in here if (v.prior, v.task) == (prior, task)]) for prior in PRIOR_WORDS}
            single, double = shown["gaussian"], shown["mixture"]
            if single is None or double is None:
                continue
            exact = exact_row(world("mixture", task)).weights
            off = max(abs(a - b) for a, b in zip(double.row.weights, exact, strict=True))
            title = name if name == EXACT else f"[{name}]({name}.md)"
            rows.append(
                (
                    f"{title}{f', {variant}' if variant else ''}",
                    task,
                    _cost(single),
                    _two(single.row.mean),
                    _two(single.row.deviation),
                    _percent(single.row.coverage[1]),
                    number(single.row.residual),
                    _percent(double.row.coverage[1]),
                    number(off),
                    _where(here),
                )
            )
    head = ("method", "task", "calls", "mean", "spread", "90 %", "residual", "90 %, two modes", "weight off by")
    return markdown((*head, "calibrated"), rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows]) + "\n"


def number(value: float) -> str:
    if math.isnan(value):
        return "–"
    if not math.isfinite(value) or abs(value) >= 1000:
        return "> 1000"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def _at_100(lines: Sequence[Line]) -> Line | None:
    return min(lines, key=lambda line: abs(math.log(max(line.calls, 1) / 100)), default=None)


def _where(lines: Sequence[Line]) -> str:
    """The fewest calls from which all that is asked of every world is met."""
    worlds = dict.fromkeys((line.prior, line.task) for line in lines)
    parts = []
    for prior, task in worlds:
        good = sorted(line.calls for line in lines if (line.prior, line.task) == (prior, task) and calibrated(line))
        place = {"gaussian": "Gaussian", "mixture": "mixture"}[prior] if task != "blur" else "blur"
        if task == "clean half":
            place += ", no noise"
        if good:
            parts.append(f"{place}: {f'{good[0]} calls' if good[0] else 'yes'}")
    return "; ".join(parts) or "no"


def _verdict(lines: Sequence[Line]) -> str:
    variants = list(dict.fromkeys(line.variant for line in lines if line.variant != OWN_TIMES))
    found = {v: _where([line for line in lines if line.variant == v]) for v in variants}
    parts = [f"{v or 'default'}: {where}" for v, where in found.items()] if len(found) > 1 else list(found.values())
    return f"Calibrated, by the measure of that page: {'. '.join(parts)}."


def _known_bias(cls: type[Method]) -> str:
    bias = cls.bias
    if bias is None:
        return "It claims no posterior."
    return f"Known bias: {bias.words}." if bias.words else "It claims to be exact."


def _calls(line: Line) -> str:
    return _cost(line) + (" (default)" if line.default else "")


def _cost(line: Line) -> str:
    """Exact samples have none."""
    return f"{line.calls}{' with gradient' if line.backwards else ''}" if line.calls else ""


def _numbers(row: Row) -> tuple[str, ...]:
    coverage = " / ".join(_percent(c) for c in row.coverage)
    found = (_two(row.mean), _two(row.deviation), coverage, number(row.residual))
    return (*found, ", ".join(number(w) for w in row.weights)) if row.weights else found


def _two(values: tuple[float, float]) -> str:
    """Of seen and unseen components."""
    return " / ".join(number(v) for v in values)


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f}"


def _known(values: Iterable[float]) -> list[float]:
    return [v for v in values if not math.isnan(v)]
