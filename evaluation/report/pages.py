"""Pages from templates: self-contained HTML in which all that users wrote is escaped."""

import base64
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from metrics.base import DistributionMetric

COLOURS = 8
_STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True)
class Number:
    """A number of a table with the ends of its interval, NaN for none."""

    value: float
    low: float
    high: float

    @property
    def has_ends(self) -> bool:
        return not math.isnan(self.low)


def show(value: float) -> str:
    """A number for a person: two decimals from 1 on, four below, a dash for what is missing."""
    if math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.4f}" if abs(value) >= 1e-3 else f"{value:.1e}"


def render(template: str, **values: object) -> str:
    """A template below evaluation/ as a page with the reports' style; SVG of our own comes as :class:`Markup`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show"] = show
    return environment.get_template(template).render(style=Markup(_STYLE.read_text(encoding="utf-8")), **values)


def picture(path: Path) -> str:
    """A PNG as the address of itself."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def versions(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts, then the versions of Python and of the packages that numbers depend on."""
    shown = {**facts, "python": platform.python_version()}
    for package in ("torch", "numpy", "Pillow", "scikit-image", "scikit-learn"):
        try:
            shown[package] = version(package)
        except PackageNotFoundError:
            continue
    return shown


def intervals_of(metrics: Mapping[str, DistributionMetric]) -> str:
    """ "a jackknife over blocks of images for FID and KID, the scatter of 10 splits for IS"."""
    labels: dict[str, list[str]] = {}
    for metric in metrics.values():
        if metric.interval:
            labels.setdefault(metric.interval, []).append(metric.label)
    return ", ".join(f"{interval} for {' and '.join(of)}" for interval, of in labels.items())
