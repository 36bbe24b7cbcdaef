"""A picture with axes, drawn by matplotlib and written as a PNG of few colours."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.errors import UserError


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches at 100 pixels each; UserError where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("pictures need matplotlib: pip install -r requirements-dev.txt") from error
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_panel(figure: Any, rows: int, columns: int, number: int) -> Any:
    """The panel of that number, counted from 0 along rows: a grid, no box, small letters."""
    panel = figure.add_subplot(rows, columns, number + 1)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    return panel


def dark_colours() -> tuple[Any, ...]:
    """Colours that are told from each other on white."""
    from matplotlib import colormaps

    return colormaps["Dark2"].colors  # type: ignore[attr-defined]


def save(figure: Any, output: Path) -> None:
    """The figure as a PNG."""
    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    drawn.quantize(128, dither=Image.Dither.NONE).save(output, optimize=True)  # few colours: a third of the size
