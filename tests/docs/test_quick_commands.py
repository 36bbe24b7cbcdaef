"""The code blocks of README and docs that are marked as quick do what they say: each is run, page by page.

A mark is a comment before the block, which nobody sees who reads the rendered page. Options in it are added to every
command of the block, or, with ``|`` between them, to the first, the second ...: what takes minutes takes seconds here.

    <!-- quick --method.iterations=6 | -->
"""

import os
import re
import runpy
import shlex
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from sklearn.datasets import load_digits
from test_structure import ROOT

_BLOCK = re.compile(r"<!-- quick(?P<options>.*?) -->\n```(?P<language>\w*)\n(?P<code>.*?)^```", re.S | re.M)
PAGES = [
    page
    for page in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
    if page.is_file() and "\n<!-- quick" in page.read_text()
]


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Path:
    """A folder in which commands are given as from the repository's, and where nothing is left behind: the project,
    some pictures of a user, and small files in the place of MNIST's.
    """
    folder = tmp_path / "project"
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name[0] != "." and entry.name not in ("data", "runs", "results", "wandb", "pictures", "restored"):
            (folder / entry.name).symlink_to(entry)
    (folder / "pictures").mkdir()
    for k in range(12):
        Image.fromarray(astronaut()[20 * k : 20 * k + 80, 100:180]).save(folder / "pictures" / f"{k:02}.png")
    write_mnist(folder / "data" / "MNIST" / "raw")
    for name, value in {"DATA_DIR": folder / "data", "XDG_CACHE_HOME": tmp_path / "cache"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(folder)
    return folder


def write_mnist(folder: Path) -> None:
    """Forty digits of scikit-learn, enlarged to 28x28, in MNIST's four files."""
    folder.mkdir(parents=True)
    digits = load_digits()
    small = digits.images[:40].astype(np.float32) * 15
    pixels = np.stack([np.array(Image.fromarray(d).resize((28, 28))) for d in small]).clip(0, 255).astype(np.uint8)
    for part in ("train", "t10k"):
        head = struct.pack(">BBBB3I", 0, 0, 8, 3, *pixels.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = digits.target[:40].astype(np.uint8)
        head = struct.pack(">BBBBI", 0, 0, 8, 1, len(labels))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())


def lines(code: str) -> list[str]:
    return [line for line in re.sub(r"\\\n", " ", code).splitlines() if line.strip() and line.lstrip()[0] != "#"]


def with_options(code: str, options: str) -> list[list[str]]:
    """The words of each command of a block, with what its mark adds to them."""
    commands = [shlex.split(line, comments=True) for line in lines(code)]
    added = [shlex.split(part) for part in options.split("|")]
    if len(added) == 1:
        added *= len(commands)
    assert len(added) == len(commands), f"{len(added)} sets of options for {len(commands)} commands: {options}"
    return [words + more for words, more in zip(commands, added, strict=True)]


def call(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """python WORDS in this process: starting one costs more than what is quick."""
    assert words[0] == "python", f"only python can be quick, not {words[0]}"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    program, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    capsys.readouterr()
    code: object = 0
    try:
        if words[1] == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=False)
        else:
            runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        code = end.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    said = capsys.readouterr()
    assert code in (0, None), f"{shlex.join(words)} ended with {code}: {said.err[-1500:]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_quick_blocks_run(page, workshop, monkeypatch, capsys):
    names: dict[str, object] = {"__name__": "page"}
    for block in _BLOCK.finditer(page.read_text()):
        if block["language"] == "python":
            exec(compile(block["code"], page.name, "exec"), names)
            continue
        for words in with_options(block["code"], block["options"].strip()):
            call(words, monkeypatch, capsys)
            if "--output" in words and "--dry_run" not in words:
                output = workshop / words[words.index("--output") + 1]
                assert any(output.iterdir()), f"{shlex.join(words)} wrote nothing"
    assert os.getcwd() == str(workshop)


def test_every_mark_is_followed_by_a_block():
    for page in PAGES:
        text = page.read_text()
        assert len(_BLOCK.findall(text)) == text.count("\n<!-- quick"), f"{page.name}: a mark without its block"
