"""Copies tests/stored into a folder, its checkpoints (last.ckpt.xz) unpacked to the bytes that were written."""

import lzma
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


def unpack(folder: Path) -> Path:
    """FOLDER/stored; work with cwd = FOLDER, because paths inside the files begin with stored/."""
    target = folder / "stored"
    shutil.copytree(HERE, target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for packed in target.rglob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    return target
