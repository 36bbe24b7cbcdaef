"""Pages from templates: self-contained HTML in which all that users wrote is escaped."""

import base64
import contextlib
import hashlib
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from metrics.base import DistributionMetric

COLOURS = 8
#: Whose versions numbers may depend on: arithmetic, pictures, and the metrics that are other people's code.
PACKAGES = ("torch", "numpy", "Pillow", "scikit-image", "scikit-learn", "torchmetrics", "piq", "lpips", "clean-fid")
_STYLE = Path(__file__).with_name("report.css")
_SCRIPT = Path(__file__).with_name("report.js")


@dataclass(frozen=True)
class Number:
    """A number of a table with the ends of its interval, NaN for none; few: of fewer images than its metric wants."""

    value: float
    low: float
    high: float
    few: bool = False

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
    """A template below evaluation/ as a page with the reports' style and script; SVG of our own comes as
    :class:`Markup`. The page allows this script alone, by its hash, and nothing from elsewhere.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show"] = show
    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"style": Markup(_STYLE.read_text(encoding="utf-8")), "script": Markup(script)}
    return environment.get_template(template).render(**own, script_hash=f"sha256-{digest}", **values)


def picture(path: Path) -> str:
    """A PNG as the address of itself."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def versions(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts, then the versions of Python and of the packages that numbers depend on."""
    shown = {"command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), "commit": _commit(), **facts}
    shown |= {"processor": _processor(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            shown[package] = version(package)
        except PackageNotFoundError:
            continue
    return shown


def device_in_words(device: torch.device) -> str:
    """A device, of a GPU with its name: times of two kinds do not compare."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _commit() -> str:
    """Of the code that ran, with a word where it was changed since; a dash outside of a repository."""
    folder = Path(__file__).parent
    try:
        read = [
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True)
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return "–"
    return read[0].stdout.strip() + (" and changes" if read[1].stdout.strip() else "")


def _processor() -> str:
    """The name of the processor, and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} x {name}"


def notes_of(metrics: Iterable[DistributionMetric]) -> list[str]:
    """What metrics have to say, each sentence once."""
    return list(dict.fromkeys(metric.note for metric in metrics if metric.note))


def intervals_of(metrics: Mapping[str, DistributionMetric]) -> str:
    """ "a jackknife over blocks of images for FID and KID, the scatter of 10 splits for IS"."""
    labels: dict[str, list[str]] = {}
    for metric in metrics.values():
        if metric.interval:
            labels.setdefault(metric.interval, []).append(metric.label)
    return ", ".join(f"{interval} for {' and '.join(of)}" for interval, of in labels.items())
