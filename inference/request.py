"""What is asked of restore.py for one picture, and what came of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkpoints.lora.files import AdapterEntry


@dataclass(frozen=True)
class Request:
    """What to restore and how; method and degradation by name with their options, prior a path with adapters beside it,
    and a preset where it needs one.

    sigma_255: standard deviation of the noise in grey levels, None to estimate it. truth: a picture to compare with.
    resize: make a picture that is not of the prior's size as large; any_size: restore it as it is.
    """

    picture: Path
    output: Path
    method: str
    degradation: str
    prior: Path
    method_options: dict[str, Any] = field(default_factory=dict)
    degradation_options: dict[str, Any] = field(default_factory=dict)
    sigma_255: float | None = None
    truth: Path | None = None
    resize: bool = False
    any_size: bool = False
    num_samples: int = 1
    seed: int = 0
    device: str = "auto"
    weights: str = "ema"
    preset: str | None = None
    adapters: tuple[AdapterEntry, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a picture: paths written, (PSNR, SSIM) by what was compared with the truth, (width, height) and
    channels of the restored one, the level of its noise in grey levels and whether it was estimated, what it cost.

    Args:
        interrupted: the exit code of what ended it early, when it is what there was then (130 Ctrl-C, 75 a stop
            signal), else 0.
    """

    paths: list[Path]
    compared: dict[str, tuple[float, float]]
    size: tuple[int, int]
    channels: int
    sigma_255: float
    estimated: bool
    seconds: float
    nfe: int
    interrupted: int

    def lines(self) -> list[str]:
        """The paths, then PSNR and SSIM of every restoration, and of the given picture where it shows what the truth
        shows.
        """
        told = [
            f"{name}: PSNR {decibels:.2f} dB, SSIM"
            f" {'not defined under 11 pixels' if similarity != similarity else f'{similarity:.4f}'}"
            for name, (decibels, similarity) in self.compared.items()
        ]
        return [*map(str, self.paths), *told]
