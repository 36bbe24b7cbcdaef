"""The report's plots as inline SVG: no library, no fonts, colours from the page, so that they read in light and in
dark.
"""

import math
from collections.abc import Sequence
from html import escape

from evaluation.report.statistics import Interval

WIDTH = 760
LEFT, RIGHT = 150, 30
LINE = 22


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers inside [low, high], about so many of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / about
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def intervals(groups: Sequence[tuple[str, Sequence[tuple[str, int, Interval]]]], *, label: str, title: str) -> str:
    """Dots with intervals, one line per method, grouped by task. groups: (task, [(method, colour number,
    interval)]).
    """
    found = [v for _, lines in groups for _, _, v in lines if not math.isnan(v.mean)]
    if not found:
        return ""
    x, marks = _axis([v.mean for v in found] + [e for v in found for e in (v.low, v.high) if not math.isnan(e)])
    parts, y = [], 8.0
    for task, lines in groups:
        y += LINE
        parts.append(_text(4, y, task, "start", "group"))
        for method, colour, v in lines:
            y += LINE
            parts.append(_text(LEFT - 10, y + 4, _name(method), "end"))
            if math.isnan(v.mean):
                parts.append(_text(LEFT + 4, y + 4, "missing", "start", "axis"))
                continue
            hint = f"{task}, {method}: {v.mean:.4g}" + (
                "" if math.isnan(v.low) else f" ({v.low:.4g} to {v.high:.4g}), n = {v.n}"
            )
            bar = (
                ""
                if math.isnan(v.low)
                else f'<line class="s{colour}" x1="{x(v.low):.1f}" x2="{x(v.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(
                f'<g><title>{escape(hint)}</title>{bar}<circle class="f{colour}" cx="{x(v.mean):.1f}" cy="{y:.1f}"'
                ' r="4.5"/></g>'
            )
    return _figure(parts, y + LINE, x, marks, label, title)


def strips(groups: Sequence[tuple[str, Sequence[tuple[str, int, Sequence[float]]]]], *, label: str, title: str) -> str:
    """Every image as a faint dot and the quartiles as a box: how much images differ. groups: (task, [(method, colour
    number, values)]).
    """
    everything = [v for _, lines in groups for _, _, values in lines for v in values if not math.isnan(v)]
    if not everything:
        return ""
    x, marks = _axis(everything)
    parts, y = [], 8.0
    for task, lines in groups:
        y += LINE
        parts.append(_text(4, y, task, "start", "group"))
        for method, colour, values in lines:
            y += LINE
            values = sorted(v for v in values if not math.isnan(v))
            parts.append(_text(LEFT - 10, y + 4, _name(method), "end"))
            if not values:
                continue
            step = max(1, len(values) // 200)  # at most 200 dots a line: the page stays small
            offsets = ((k * 0.618 % 1 - 0.5) * 11 for k in range(len(values)))
            dots = "".join(
                f'<circle cx="{x(v):.1f}" cy="{y + d:.1f}" r="2"/>'
                for k, (v, d) in enumerate(zip(values, offsets, strict=True))
                if not k % step
            )
            low, middle, high = (_quantile(values, q) for q in (0.25, 0.5, 0.75))
            hint = escape(
                f"{task}, {method}: median {middle:.4g}, quartiles {low:.4g} and {high:.4g}, {len(values)} images"
            )
            box = (
                f'<rect class="s{colour} box" x="{x(low):.1f}" width="{max(1, x(high) - x(low)):.1f}" y="{y - 7:.1f}"'
                ' height="14"/>'
            )
            line = (
                f'<line class="s{colour}" x1="{x(middle):.1f}" x2="{x(middle):.1f}" y1="{y - 7:.1f}" y2="{y + 7:.1f}"/>'
            )
            parts.append(f'<g><title>{hint}</title><g class="f{colour} faint">{dots}</g>{box}{line}</g>')
    return _figure(parts, y + LINE, x, marks, label, title)


def scatter(
    points: Sequence[tuple[str, int, float, float, str]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    faint: Sequence[tuple[int, float, float, str]] = (),
    front: bool = False,
) -> str:
    """Quality over cost, cost on a logarithmic axis. points: (name, colour number, cost > 0, quality, hint); faint:
    what they are made of, (colour number, cost, quality, hint); front: a line along the points that no other one beats
    in both.
    """
    points = [p for p in points if p[2] > 0 and not math.isnan(p[3])]
    faint = [p for p in faint if p[1] > 0 and not math.isnan(p[2])]
    if not points:
        return ""
    height, top, bottom = 300, 14, 46
    logs = [math.log10(cost) for cost in (*(p[2] for p in points), *(p[1] for p in faint))]
    values = [*(p[3] for p in points), *(p[2] for p in faint)]
    low, high = min(logs) - 0.25, max(logs) + 0.6  # room for the names, which stand to the right of the points
    least, most = _padded(values, 0.12)

    def x(cost: float) -> float:
        return 60 + (math.log10(cost) - low) / (high - low) * (WIDTH - 60 - RIGHT)

    def y(value: float) -> float:
        return top + (most - value) / (most - least) * (height - top - bottom)

    parts = []
    decades = [10.0**k for k in range(math.ceil(low), math.floor(high) + 1)]
    if len(decades) < 2:
        decades = [
            d * 10.0**k
            for k in range(math.floor(low), math.ceil(high) + 1)
            for d in (1, 2, 5)
            if low <= math.log10(d * 10.0**k) <= high
        ]
    for mark in decades:
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(_text(x(mark), height - bottom + 16, f"{mark:g}", "middle", "axis"))
    for mark in ticks(least, most):
        parts.append(f'<line class="grid" x1="60" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(_text(54, y(mark) + 4, f"{mark:g}", "end", "axis"))
    for colour, cost, value, hint in faint:
        dot = f'<circle class="f{colour}" cx="{x(cost):.1f}" cy="{y(value):.1f}" r="3"/>'
        parts.append(f'<g class="faint"><title>{escape(hint)}</title>{dot}</g>')
    if front:
        unbeaten = [p for p in points if not any(q[2] <= p[2] and q[3] > p[3] for q in points)]
        path = " ".join(f"{x(p[2]):.1f},{y(p[3]):.1f}" for p in sorted(unbeaten, key=lambda p: p[2]))
        parts.append(f'<polyline class="s7" fill="none" stroke-dasharray="5 4" points="{path}"/>')
    placed: list[tuple[float, float]] = []
    for name, colour, cost, value, hint in sorted(points, key=lambda p: -p[3]):
        a, b = x(cost), y(value)
        label = b + 4
        while any(abs(a - c) < 110 and abs(label - d) < 13 for c, d in placed):  # names that would overlap move down
            label += 3
        placed.append((a, label))
        dot = f'<circle class="f{colour}" cx="{a:.1f}" cy="{b:.1f}" r="5"/>'
        fits = a + 9 + 8 * len(_name(name)) < WIDTH  # near the right edge the name stands to the left
        text = _text(a + 9, label, _name(name), "start") if fits else _text(a - 9, label, _name(name), "end")
        parts.append(f"<g><title>{escape(hint)}</title>{dot}{text}</g>")
    parts.append(_text((60 + WIDTH - RIGHT) / 2, height - 8, x_label, "middle", "axis"))
    turned = f'transform="translate(14 {(top + height - bottom) / 2:.0f}) rotate(-90)"'
    parts.append(f'<text class="axis" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return _svg(parts, height, title)


def curves(
    series: Sequence[tuple[str, int, Sequence[tuple[float, float, float, float]]]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    floor: tuple[str, float] | None = None,
) -> str:
    """Lines with intervals over a logarithmic cost. series: (name, colour number, [(cost > 0, value, low, high)]);
    floor: a named level, dashed.
    """
    points = [p for _, _, line in series for p in line if p[0] > 0]
    if not points:
        return ""
    height, top, bottom = 300, 14, 46
    logs = [math.log10(p[0]) for p in points]
    low, high = min(logs) - 0.1, max(logs) + 0.5  # room for the names, which stand at the ends of the lines
    heights = [v for p in points for v in p[1:] if not math.isnan(v)] + ([floor[1]] if floor else [])
    least, most = _padded(heights, 0.08)

    def x(cost: float) -> float:
        return 60 + (math.log10(cost) - low) / (high - low) * (WIDTH - 60 - RIGHT)

    def y(value: float) -> float:
        return top + (most - value) / (most - least) * (height - top - bottom)

    parts = []
    for mark in sorted({p[0] for p in points}):
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(_text(x(mark), height - bottom + 16, f"{mark:g}", "middle", "axis"))
    for mark in ticks(least, most):
        parts.append(f'<line class="grid" x1="60" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(_text(54, y(mark) + 4, f"{mark:g}", "end", "axis"))
    if floor:
        parts.append(
            f'<line class="s7" stroke-dasharray="5 4" x1="60" x2="{WIDTH - RIGHT}" y1="{y(floor[1]):.1f}"'
            f' y2="{y(floor[1]):.1f}"/>'
        )
        parts.append(_text(64, y(floor[1]) - 6, f"{floor[0]}: {floor[1]:.4g}", "start", "axis"))
    placed: list[float] = []
    # equal costs: intervals stand side by side
    aside = {s[0]: 6 * (number - (len(series) - 1) / 2) for number, s in enumerate(series)}
    for name, colour, line in sorted(series, key=lambda s: s[2][-1][1] if s[2] else 0):
        if not line:
            continue
        at = {cost: x(cost) + aside[name] for cost, *_ in line}
        path = " ".join(f"{at[c]:.1f},{y(v):.1f}" for c, v, _, _ in line)
        parts.append(f'<polyline class="s{colour}" fill="none" points="{path}"/>')
        for cost, value, down, up in line:
            bar = (
                ""
                if math.isnan(down)
                else (
                    f'<line class="s{colour}" x1="{at[cost]:.1f}" x2="{at[cost]:.1f}" y1="{y(down):.1f}"'
                    f' y2="{y(up):.1f}"/>'
                )
            )
            hint = f"{name}, {cost:g}: {value:.4g}" + ("" if math.isnan(down) else f" ({down:.4g} to {up:.4g})")
            parts.append(
                f'<g><title>{escape(hint)}</title>{bar}<circle class="f{colour}" cx="{at[cost]:.1f}"'
                f' cy="{y(value):.1f}" r="4"/></g>'
            )
        label = y(line[-1][1]) + 4
        while any(abs(label - other) < 14 for other in placed):  # names that would overlap move up
            label -= 3
        placed.append(label)
        parts.append(_text(x(line[-1][0]) + max(aside.values()) + 9, label, _name(name), "start"))
    parts.append(_text((60 + WIDTH - RIGHT) / 2, height - 8, x_label, "middle", "axis"))
    turned = f'transform="translate(14 {(top + height - bottom) / 2:.0f}) rotate(-90)"'
    parts.append(f'<text class="axis" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return _svg(parts, height, title)


def _axis(values: Sequence[float]):
    low, high = _padded(values)

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    return x, ticks(low, high)


def _padded(values: Sequence[float], share: float = 0.05) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = share * (high - low) or max(1e-3, 0.05 * abs(high))
    return low - room, high + room


def _figure(parts: list[str], bottom: float, x, marks: Sequence[float], label: str, title: str) -> str:
    grid = []
    for mark in marks:
        grid.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="14" y2="{bottom - 8:.1f}"/>')
        grid.append(_text(x(mark), bottom + 8, f"{mark:g}", "middle", "axis"))
    grid.append(_text((LEFT + WIDTH - RIGHT) / 2, bottom + 28, label, "middle", "axis"))
    return _svg(grid + parts, bottom + 36, title)


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


def _name(text: str) -> str:
    """A name that fits into the margin."""
    return text if len(text) <= 20 else text[:19] + "…"


def _text(x: float, y: float, text: str, anchor: str, cls: str = "name") -> str:
    return f'<text class="{cls}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _quantile(ordered: Sequence[float], q: float) -> float:
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
