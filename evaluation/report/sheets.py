"""images/<task>.png: for each task a sheet that a person sees at once: truth, measurement, every method; and
images/<task>_samples_<image>.png: the samples of one image, of the first few, where a method has several.
"""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from common.files import write_atomically
from common.image_range import to_uint8
from evaluation.engine import measured
from evaluation.image_files import read_png, restored_path
from evaluation.plan import Plan
from evaluation.rows import Row

TILE = 96  # least side of a shown image in pixels: 8x8 digits are enlarged twelve times
LARGEST = 256  # larger images are shown reduced
GAP = 10
ROWS = 8
SETS = 4  # images of a task whose samples are shown
MOST = 8  # samples of each method
MAX_BYTES = 300_000
_MISSING = (92, 124, 168)  # pixels that were not measured: a blue, which no grey image has
_PAPER, _INK = (250, 250, 248), (30, 30, 30)


def write_sheets(plan: Plan, folder: Path, rows: list[Row], *, shown: dict[str, str]) -> dict[str, Path]:
    """Write the sheet of every task that has restored images; shown: names of the methods by name. Returns the paths by
    task.
    """
    done: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        if row.sample == 0:
            done.setdefault(row.task, {}).setdefault(row.method, set()).add(row.image)
    paths = {}
    for task in plan.tasks:
        methods = [m for t, m in plan.cells if t == task and m in done.get(task, {})]
        if not methods:
            continue
        usable = [r for r in plan.tasks[task].rows if all(plan.names[r] in done[task][m] for m in methods)][:ROWS]
        if not usable:
            continue
        paths[task] = folder / "images" / f"{task}.png"
        write_atomically(paths[task], _fitting(plan, folder, task, methods, usable, shown))
        sets = {m: min(plan.methods[m].num_samples, MOST) for m in methods}
        if max(sets.values()) > 1:
            paths |= _set_sheets(plan, folder, task, sets, usable[:SETS], rows, shown)
    return paths


def _set_sheets(
    plan: Plan, folder: Path, task: str, sets: dict[str, int], images: list[int], rows: list[Row], shown: dict[str, str]
) -> dict[str, Path]:
    """A sheet of the samples of each of these images whose samples are all there; sets: samples by method."""
    done = {row.key for row in rows if row.task == task}
    paths = {}
    for row in images:
        name = plan.names[row]
        if any((task, m, name, k) not in done for m, n in sets.items() for k in range(n)):
            continue
        path = folder / "images" / f"{task}_samples_{name}.png"
        write_atomically(path, _bounded(_set_sheet(plan, folder, task, sets, row, shown)))
        paths[f"{task}, samples of {name}"] = path
    return paths


def _set_sheet(
    plan: Plan, folder: Path, task: str, sets: dict[str, int], row: int, shown: dict[str, str]
) -> Image.Image:
    """Columns are methods and rows their samples; the first column has truth and measurement."""
    given, size = _given(plan, task, row)
    blank = Image.new("RGB", size, _PAPER)
    height = max(2, *sets.values())
    columns = [given]
    for method, count in sets.items():
        files = [restored_path(folder, task, method, plan.names[row], k) for k in range(count)]
        columns.append([_tile(read_png(file), size) for file in files])
    columns = [column + [blank] * (height - len(column)) for column in columns]
    grid = [list(tiles) for tiles in zip(*columns, strict=True)]
    return compose(grid, ["truth, measurement", *(shown[m] for m in sets)])


def pixels_of(plan: Plan, task: str, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and measurement of an image as colours, uint8 [h, w, 3], each at its own size; what was not measured in
    blue.
    """
    truth, measurement = measured(plan, task, [row])
    mask = measurement.operator.mask
    missing = None if mask is None else mask[0, 0]
    return _coloured(truth[0]), _coloured(_visible(measurement.y[0]), missing)


def _given(plan: Plan, task: str, row: int) -> tuple[list[Image.Image], tuple[int, int]]:
    """Truth and measurement of an image as pictures, and their size."""
    truth, measurement = pixels_of(plan, task, row)
    height, width = truth.shape[:2]
    scale = min(max(1, math.ceil(TILE / max(height, width))), LARGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return [_resized(truth, size), _resized(measurement, size)], size


def _fitting(plan: Plan, folder: Path, task: str, methods: list[str], rows: list[int], shown: dict[str, str]) -> bytes:
    """The bytes of the sheet with as many rows as stay under the limit of size."""
    while True:
        content = _encode(_sheet(plan, folder, task, methods, rows, shown))
        if len(content) <= MAX_BYTES:
            return content
        if len(rows) == 1:
            return _bounded(_sheet(plan, folder, task, methods, rows, shown))
        rows = rows[: max(1, int(len(rows) * 0.9 * MAX_BYTES / len(content)))]


def _sheet(
    plan: Plan, folder: Path, task: str, methods: list[str], rows: list[int], shown: dict[str, str]
) -> Image.Image:
    grid = []
    for row in rows:
        tiles, size = _given(plan, task, row)
        tiles += [_tile(read_png(restored_path(folder, task, m, plan.names[row], 0)), size) for m in methods]
        grid.append(tiles)
    labels = ["truth", "measurement", *(shown[m] for m in methods)]
    return compose(grid, labels)


def compose(grid: list[list[Image.Image]], labels: list[str]) -> Image.Image:
    """Rows of pictures under a line of labels, with gaps; a column is as wide as its widest picture and its label."""
    font = ImageFont.load_default(13)
    texts = [_shortened(label, font, 190) for label in labels]
    widths = [
        max(max(tiles[c].width for tiles in grid), math.ceil(font.getlength(texts[c]))) for c in range(len(labels))
    ]
    heights = [max(tile.height for tile in tiles) for tiles in grid]
    head = 30
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) + 1), head + sum(heights) + GAP * len(heights)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    x = GAP
    for c, width in enumerate(widths):
        draw.text((x + width / 2, head / 2), texts[c], _INK, font, anchor="mm")
        y = head
        for tiles, height in zip(grid, heights, strict=True):
            sheet.paste(tiles[c], (x + (width - tiles[c].width) // 2, y))
            y += height + GAP
        x += width + GAP
    return sheet


def _visible(y: Tensor) -> Tensor:
    """A measurement as pixels: its own channels where there are one or three, else the first; values outside of the
    range are clipped.
    """
    return to_uint8(y if y.shape[0] in (1, 3) else y[:1])


def _tile(pixels: Tensor, size: tuple[int, int]) -> Image.Image:
    """uint8 [C, h, w] as a picture of `size`."""
    return _resized(_coloured(pixels), size)


def _coloured(pixels: Tensor, mask: Tensor | None = None) -> np.ndarray:
    """uint8 [C, h, w] as [h, w, 3]; pixels that a mask leaves out in blue."""
    array = pixels.cpu().permute(1, 2, 0).expand(-1, -1, 3).numpy().copy()
    if mask is not None and tuple(mask.shape) == array.shape[:2]:
        array[(mask == 0).cpu().numpy()] = _MISSING
    return array


def _resized(array: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Each pixel a block (nearest neighbour), or a mean of pixels where the picture becomes smaller."""
    picture = Image.fromarray(np.ascontiguousarray(array))
    enlarged = size[0] >= picture.width
    return picture.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _bounded(sheet: Image.Image) -> bytes:
    """The bytes of a sheet; in 128 colours where they would be more than the limit."""
    content = _encode(sheet)
    return content if len(content) <= MAX_BYTES else _encode(sheet.quantize(128))


def _encode(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
