"""Every format through every entry, restore.py, --truth, --mask, data modules, studies: docs/pictures.md's matrix."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from picture_examples import EXAMPLES, HEIGHT, WIDTH, Example
from PIL import Image
from test_structure import ROOT

import restore
from common import png16
from common.errors import UserError
from datamodules.image_folder import ImageFolder
from datamodules.user_images import UserImages
from studies.stopping_study import read_image

PAGE = ROOT / "docs" / "pictures.md"
ENTRIES = ("restore.py", "--truth", "--mask", "ImageFolder", "UserImages", "studies")
REFUSED, WRONG = "refused", "wrong"


class Wrong(AssertionError):
    """The entry opened the file, and took it for something else."""


def same(found: np.ndarray, example: Example, *, bits: int, white: bool = False) -> str:
    """The cell of [C, H, W] in [0, 1]: the bits, or Wrong where it is not what the example holds.

    white: transparent pixels are laid on white; otherwise they may be anything.
    """
    expected = example.levels().transpose(2, 0, 1) / 65535
    expected = (expected * 255).round() / 255 if bits == 8 else expected
    if found.shape != expected.shape:
        raise Wrong(f"shape {found.shape}, not {expected.shape}")
    off = np.abs(found - expected)
    if example.has_alpha:
        off[:, 0, 0] = np.abs(found[:, 0, 0] - 1) if white else 0
    # float32 in [-1, 1] knows 16 bits to half a level
    if off.max() > (example.near + 0.01 * (bits == 16)) / 255 + 1e-6:
        raise Wrong(f"off by {off.max() * 255:.2f} of 255")
    return f"{bits} bits"


def run_restore(*words: object, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> str:
    """What it printed; UserError as it is."""
    monkeypatch.setattr(sys, "argv", ["restore.py", *map(str, words), "--method=pseudo_inverse", "--sigma_255=0"])
    restore.main()
    out, err = capsys.readouterr()
    return out + err


def read_png(path: Path) -> tuple[np.ndarray, int]:
    """([C, H, W] in [0, 1] with alpha, bits), not by the reader that is tested."""
    data = path.read_bytes()
    if png16.is_png16(data):
        return png16.decode(data).transpose(2, 0, 1) / 65535, 16
    with Image.open(path) as opened:
        return np.atleast_3d(np.array(opened)).transpose(2, 0, 1) / 255, 8


def entries(example: Example, folder: Path, **tools) -> dict[str, Callable[[], str]]:
    """For each entry what opens the example and says what was found."""
    path, mask = folder / f"a{example.ending}", folder / f"mask{example.ending}"
    example.write(path, example.levels())
    masks = example if not example.near else replace(example, near=0)
    example.write(mask, masks.mask())
    known = masks.mask()[..., 0] > 32767
    plain, white = folder / "plain.png", folder / "white.png"
    plain.write_bytes(png16.encode(example.levels()))
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(white)

    def picture() -> str:
        run_restore(path, "--output", folder / "out", **tools)
        found, bits = read_png(folder / "out" / "restored.png")
        if example.has_alpha and (found[-1, 0, 0], found[-1, 1:, 1:].min()) != (0, 1):
            raise Wrong("alpha did not come back")
        return same(found[: example.channels], example, bits=bits)

    def truth() -> str:
        printed = run_restore(plain, "--truth", path, "--output", folder / "out", **tools)
        decibels = float(re.findall(r"restored: PSNR (\S+) dB", printed)[0])
        if decibels < (90 if not example.near else 20):
            raise Wrong(f"{decibels} dB")
        return "8 bits"

    def given_mask() -> str:
        printed = run_restore(white, "--mask", mask, "--output", folder / "out", **tools)
        found, _ = read_png(folder / "out" / "restored.png")
        if not np.array_equal(found[0] == 1, known):
            raise Wrong(str(found[0]))
        share = 100 * (1 - known.mean())
        if f"{share:.1f} % of the pixels are missing" not in printed:
            raise Wrong(printed)
        return "yes"

    def image_folder() -> str:
        (folder / "one").mkdir()
        path.rename(folder / "one" / path.name)
        cells = set()
        for limit in (0, 2048):  # with only the header read, and with the pixels in memory
            options = {"folder": str(folder / "one"), "mode": "auto", "batch_size": 1, "strict": True}
            data = ImageFolder(test_images="all", memory_limit_mb=limit, **options)
            images = data.images("test")
            if images.shape(0) != (example.channels, HEIGHT, WIDTH):
                raise Wrong(f"shape {images.shape(0)}")
            cells.add(same(images.get([0]).image[0].numpy() / 255, example, bits=8, white=True))
        return cells.pop()

    def user_images() -> str:
        item = UserImages(path=str(path)).items[0]
        if (item.known is not None) != example.has_alpha or (item.known is not None and bool(item.known[0, 0, 0])):
            raise Wrong("transparent pixels are not missing")
        return same((item.image.numpy() + 1) / 2, example, bits=16 if example.deep else 8)

    def study() -> str:
        found = read_image("a", {"path": str(path), "grey": example.channels == 1})
        return same((found[0].numpy() + 1) / 2, example, bits=8, white=True)

    return {
        "restore.py": picture,
        "--truth": truth,
        "--mask": given_mask,
        "UserImages": user_images,
        "studies": study,
        "ImageFolder": image_folder,
    }


def cells_of(example: Example, folder: Path, **tools) -> dict[str, str]:
    """What each entry does with it: bits, "yes", "refused", or "wrong" with what was wrong."""
    found = {}
    for entry, look in entries(example, folder, **tools).items():
        try:
            found[entry] = look()
        except UserError as error:
            assert "\n" not in str(error)
            found[entry] = REFUSED
        except Wrong as error:
            found[entry] = f"{WRONG}: {error}"
    return found


_FOUND: dict[int, dict[str, str]] = {}


def cells(number: int, folder: Path, capsys, monkeypatch) -> dict[str, str]:
    if number not in _FOUND:
        folder = folder / str(number)
        folder.mkdir()
        _FOUND[number] = cells_of(EXAMPLES[number], folder, capsys=capsys, monkeypatch=monkeypatch)
    return _FOUND[number]


@cache
def rows_of_page() -> dict[str, list[str]]:
    """The cells of the matrix, by the name of the row."""
    lines = re.findall(r"^\| (.+) \|$", PAGE.read_text(), re.M) if PAGE.exists() else []
    split = [line.split(" | ") for line in lines]
    return {line[0]: line[1:] for line in split if len(line) == 1 + len(ENTRIES)}


@pytest.mark.parametrize("row", list(dict.fromkeys(e.row for e in EXAMPLES)))
def test_every_entry_takes_it_for_the_same(row, tmp_path, capsys, monkeypatch):
    """The levels that were written, upright, or a refusal in one sentence; and the page says so."""
    found = [cells(n, tmp_path, capsys, monkeypatch) for n, e in enumerate(EXAMPLES) if e.row == row]
    assert not [c for c in found if any(WRONG in cell for cell in c.values())], found
    assert all(c == found[0] for c in found), found
    line = [found[0][entry] for entry in ENTRIES]
    assert rows_of_page().get(row) == line, f"docs/pictures.md should say:\n| {' | '.join([row, *line])} |"


def test_the_page_has_no_other_rows():
    assert set(rows_of_page()) - {"file", "---"} == {example.row for example in EXAMPLES}
