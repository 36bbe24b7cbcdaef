"""Picture files of a folder: which there are, and each as uint8 pixels, resized with a filter that does not alias."""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.picture_files import Mode, read_8_bits, read_header
from common.picture_formats import extensions

CHANNELS = {"grey": 1, "colour": 3}


@dataclass(frozen=True)
class Fit:
    """The geometry of a picture at rest: the shorter side is resized to `shorter` (None: kept), then the middle square
    `square` is cut out.

    Args:
        square: side of the crop in pixels, None: no crop. A picture that is smaller than the crop is enlarged until it
            covers it. Resizing is bicubic with support scaled by the reduction (Pillow's), which suppresses aliasing.
    """

    shorter: int | None = None
    square: int | None = None
    least: int = 1

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after the resizing and before the crop."""
        short = min(width, height)
        target = max(self.shorter or short, self.square or 1, self.least)
        if target == short:
            return width, height
        return max(target, round(width * target / short)), max(target, round(height * target / short))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) at rest."""
        return (self.square, self.square) if self.square else self.resized(width, height)

    def __call__(self, picture: Image.Image) -> Image.Image:
        target = self.resized(*picture.size)
        if target != picture.size:
            picture = picture.resize(target, Image.Resampling.BICUBIC)
        if self.square:
            left, upper = (target[0] - self.square) // 2, (target[1] - self.square) // 2
            picture = picture.crop((left, upper, left + self.square, upper + self.square))
        return picture


@dataclass(frozen=True)
class Listing:
    """What a folder holds: the paths of its pictures, relative to it, in natural order; what was passed over, by ending
    ("hidden", "linked again" for other reasons), with counts.
    """

    pictures: list[Path]
    passed_over: Counter[str]

    def remark(self, folder: Path) -> str | None:
        """What was passed over in one line, None where nothing was."""
        if not self.passed_over:
            return None
        counts = ", ".join(f"{count} {ending}" for ending, count in sorted(self.passed_over.items()))
        return f"'{folder}': {len(self.pictures)} pictures; passed over: {counts}"


def list_pictures(folder: Path) -> Listing:
    """All pictures in a folder and below it, in natural order (2 before 10), without hidden ones; a file that is linked
    several times counts once, by its own name where that is in the folder.
    """
    endings, passed_over, visited = extensions(), Counter[str](), set()
    found: list[tuple[Path, os.DirEntry]] = []
    todo = [folder]
    while todo:
        place = todo.pop()
        real = os.path.realpath(place)
        if real in visited:  # a link may lead back upwards
            continue
        visited.add(real)
        try:
            entries = list(os.scandir(place))
        except PermissionError:
            passed_over["folders without permission"] += 1
        else:
            for entry in entries:
                if entry.is_dir():
                    todo += [] if entry.name.startswith((".", "__MACOSX")) else [Path(entry.path)]
                elif (ending := Path(entry.name).suffix.lower()) not in endings:
                    passed_over.update([] if entry.name.startswith(".") else [ending or "without an ending"])
                elif entry.name.startswith("."):
                    passed_over["hidden"] += 1
                else:
                    found.append((place.relative_to(folder) / entry.name, entry))
    found.sort(key=lambda item: (item[1].is_symlink(), natural_key(item[0])))
    pictures, files = [], set()
    for path, entry in found:
        identity = _identity(entry)
        if identity is not None and identity in files:
            passed_over["linked again"] += 1
        else:
            files.add(identity)
            pictures.append(path)
    return Listing(sorted(pictures, key=natural_key), passed_over)


def find_pictures(folder: Path) -> list[Path]:
    """The pictures of :func:`list_pictures`."""
    return list_pictures(folder).pictures


def _identity(entry: os.DirEntry) -> tuple[int, int] | None:
    """The same for two names of one file; None for a link that leads nowhere, which is named when it is opened."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None


def natural_key(path: Path) -> tuple:
    """Sort key: part by part, numbers by value and before letters, letters without case, the exact name last."""

    def pieces(part: str) -> tuple:
        return tuple((0, int(t), "") if t.isdecimal() else (1, 0, t) for t in re.split(r"([0-9]+)", part.lower()) if t)

    return tuple(pieces(part) for part in path.parts), path.as_posix()


def header(path: Path) -> tuple[int, int, Mode]:
    """(width, height, mode as stored) upright, read without decoding."""
    found = read_header(path)
    return found.width, found.height, "grey" if found.colours == 1 else "colour"


def decode(path: Path, mode: Mode, fit: Fit) -> Tensor:
    """Pixels uint8 [C, H, W] of a file: upright, on white where it is transparent, 16 bits reduced to 8, in grey or
    colour, fitted. Of several pictures in a file the first is taken, other colour spaces become RGB.

    PictureError, or what the disk says, where the file is broken.
    """
    return to_tensor(fit(read_8_bits(path, mode, first=True, other_colours=True)))


def to_tensor(picture: Image.Image) -> Tensor:
    """uint8 [C, H, W] of a picture in mode L or RGB."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
