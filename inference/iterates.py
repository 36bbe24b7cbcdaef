"""What an iterative method went through: a few of its estimates in a strip, and the numbers of its trace as a table and
as curves.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from common.image_range import to_uint8
from evaluation.report.plots import ticks
from metrics.distortion import psnr

TILE = 192  # pixels: small pictures are enlarged to this, large ones made as small
TILES = 8
PANELS = 8
INK, PALE, LINE, MARK = (40, 40, 46), (225, 225, 228), (31, 94, 168), (190, 70, 40)


class Iterates:
    """Keeps estimates at iterations 1, 2, 3, 4, 6, 8, 11, ... (powers of the root of 2), so that few are stored however
    long it takes.

    Call it as the `on_step` of a method that restores one picture; kept are 8-bit pixels on the CPU. count: the
    iterations so far.
    """

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}
        self.count = 0
        self._next = 1

    def __call__(self, step: int, total: int, estimate: Tensor) -> None:
        del total
        self.count = step + 1
        if step + 1 >= self._next and bool(torch.isfinite(estimate[0]).all()):
            self.kept[step + 1] = to_uint8(estimate[0].float()).cpu()
            while self._next <= step + 1:
                self._next = max(self._next + 1, round(self._next * 2**0.5))

    def chosen(self, count: int = TILES - 1) -> list[int]:
        """At most so many of the kept iterations, about equal in ratio, from a thirtieth of the last one on."""
        if not self.kept:
            return []
        last = max(self.kept)
        wanted = [last * 30 ** (k / max(1, count - 1) - 1) for k in range(count)]
        return sorted({min(self.kept, key=lambda i: abs(math.log(i / w))) for w in wanted})


def strip(iterates: Iterates, answer: Tensor, truth: Tensor | None = None) -> np.ndarray:
    """The iterates and the answer [C, H, W] in [-1, 1] side by side as uint8 [H', W', 3], each with its iteration, and
    its PSNR where there is a truth.
    """
    shown = [(f"iteration {i}", iterates.kept[i]) for i in iterates.chosen()]
    return in_a_row([*shown, ("answer", to_uint8(answer.float().cpu()))], truth)


def in_a_row(shown: Sequence[tuple[str, Tensor]], truth: Tensor | None = None) -> np.ndarray:
    """Pictures uint8 [C, H, W] of one size side by side as uint8 [H', W', 3], each with its words, and with its PSNR
    where there is a truth [C, H, W] in [-1, 1].
    """
    font, gap, line = ImageFont.load_default(13), 8, 17
    tiles = [(name, pixels, _tile(pixels)) for name, pixels in shown]
    width, height = tiles[0][2].size
    width = max(width, 96)  # room for the words
    sheet = Image.new(
        "RGB", (len(tiles) * (width + gap) + gap, height + 2 * gap + line * (1 if truth is None else 2)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for k, (name, pixels, tile) in enumerate(tiles):
        left = gap + k * (width + gap)
        sheet.paste(tile, (left, gap))
        draw.text((left, height + gap + 3), name, fill=INK, font=font)
        if truth is not None:
            value = float(psnr(pixels[None], to_uint8(truth.float().cpu())[None]))
            draw.text((left, height + gap + 3 + line), f"{value:.2f} dB", fill=INK, font=font)
    return np.array(sheet)


def _tile(pixels: Tensor) -> Image.Image:
    """uint8 [C, H, W] in colours, its longer side TILE: whole pixels as blocks, or averaged."""
    longer = max(pixels.shape[1:])
    x = pixels.float()[None].expand(1, 3, -1, -1)
    if longer <= TILE:
        factor = TILE // longer
        x = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    else:
        size = [max(1, round(side * TILE / longer)) for side in pixels.shape[1:]]
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    return Image.fromarray(x[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def with_iterations(trace: Mapping[str, Sequence[float]], count: int) -> dict[str, Sequence[float]]:
    """The trace with the column `iteration`, where it has none: 1 to `count` for one entry after each iteration, 0 to
    `count` for one before them too.
    """
    entries = max((len(values) for values in trace.values()), default=0)
    if "iteration" in trace or entries not in (count, count + 1):
        return dict(trace)
    return {"iteration": list(range(count + 1 - entries, count + 1)), **trace}


def table(trace: Mapping[str, Sequence[float]]) -> str:
    """The trace as CSV: a row per entry, `iteration` first (counted from 0 where the trace has none), a cell without a
    number is empty.
    """
    names = [name for name in trace if name != "iteration"]
    rows = max((len(trace[name]) for name in trace), default=0)
    places = trace.get("iteration", range(rows))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["iteration", *names])
    for k in range(rows):
        cells = [trace[name][k] if k < len(trace[name]) else None for name in names]
        writer.writerow(
            [
                f"{places[k]:g}" if k < len(places) else "",
                *("" if c is None or math.isnan(c) else f"{c:.8g}" for c in cells),
            ]
        )
    return out.getvalue()


def curves(trace: Mapping[str, Sequence[float]], marks: Mapping[str, float] | None = None) -> np.ndarray | None:
    """The first PANELS numbers of the trace over the iterations, one under the other, as uint8 [H, W, 3]; None where
    nothing has two values.

    marks: iterations by name that a vertical line shows. Positive values that span a factor of 8 are on a logarithmic
    axis.
    """
    panels = []
    for name, values in trace.items():
        places = trace["iteration"] if len(trace.get("iteration", ())) == len(values) else range(len(values))
        points = [(float(p), float(v)) for p, v in zip(places, values, strict=True) if math.isfinite(v)]
        if name != "iteration" and len(points) > 1:
            panels.append((name, points))
    if not panels:
        return None
    panels = panels[:PANELS]
    scale, width, height = 2, 760, 210  # drawn twice as large and made smaller, which smooths the lines
    sheet = Image.new("RGB", (scale * width, scale * height * len(panels)), "white")
    for k, (name, points) in enumerate(panels):
        _panel(
            ImageDraw.Draw(sheet),
            name,
            points,
            dict(marks or {}),
            (0, scale * height * k, scale * width, scale * height),
            scale,
        )
    return np.array(sheet.resize((width, height * len(panels)), Image.Resampling.LANCZOS))


def _panel(
    draw: ImageDraw.ImageDraw, name: str, points: list, marks: dict[str, float], box: tuple[int, int, int, int], s: int
) -> None:
    font = ImageFont.load_default(12 * s)
    left, top, width, height = box[0] + 74 * s, box[1] + 26 * s, box[2] - 94 * s, box[3] - 66 * s
    values = [v for _, v in points]
    logarithmic = min(values) > 0 and max(values) > 8 * min(values)
    low, high = (math.log10(min(values)), math.log10(max(values))) if logarithmic else (min(values), max(values))
    room = 0.06 * (high - low) or max(1e-9, 0.05 * abs(high))
    low, high = low - room, high + room
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        y = math.log10(y) if logarithmic else y
        return left + (x - first) / (last - first) * width, top + (high - y) / (high - low) * height

    levels = [10.0**k for k in range(math.ceil(low), math.floor(high) + 1)] if logarithmic else []
    if logarithmic and len(levels) < 3:
        levels = [
            m * 10.0**k
            for k in range(math.floor(low), math.ceil(high) + 1)
            for m in (1, 2, 5)
            if low <= math.log10(m * 10.0**k) <= high
        ]
    for level in levels or ticks(low, high, 4):
        y = place(first, level)[1]
        draw.line([(left, y), (left + width, y)], fill=PALE, width=s)
        draw.text((left - 6 * s, y), f"{level:.4g}", fill=INK, font=font, anchor="rm")
    for mark in ticks(first, last, 6):
        x = place(mark, points[0][1])[0]
        draw.line([(x, top), (x, top + height)], fill=PALE, width=s)
        draw.text((x, top + height + 5 * s), f"{mark:g}", fill=INK, font=font, anchor="ma")
    draw.line([place(x, y) for x, y in points], fill=LINE, width=2 * s, joint="curve")
    for at in marks.values():
        if first <= at <= last:
            x = place(at, points[0][1])[0]
            draw.line([(x, top), (x, top + height)], fill=MARK, width=s)
    legend = ", ".join(f"{word}: {at:g}" for word, at in marks.items())
    draw.text((left + width, top - 6 * s), legend, fill=MARK, font=font, anchor="rs")
    draw.text((left, top - 6 * s), name + (" (logarithmic)" if logarithmic else ""), fill=INK, font=font, anchor="ls")
    draw.text((left + width, top + height + 20 * s), "iteration", fill=INK, font=font, anchor="ra")
