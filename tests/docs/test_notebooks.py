"""The notebooks of examples/ run from the repository's folder, and show what they say that they show."""

import base64
import importlib.util
import io
import json
import re
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_structure import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PICTURE_BYTES = 100_000


def loaded(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUN = loaded(ROOT / "examples" / "run_notebooks.py")


def shown(cell: dict) -> tuple[str, list[np.ndarray]]:
    """The text and the pictures of a cell's outputs."""
    texts = [t for o in cell["outputs"] for t in o.get("text", o.get("data", {}).get("text/plain", []))]
    pictures = [o["data"]["image/png"] for o in cell["outputs"] if "image/png" in o.get("data", {})]
    return "".join(texts), [np.array(Image.open(io.BytesIO(base64.b64decode(p)))) for p in pictures]


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["add_a_method", "restore_with_the_library"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_is_stored_in_it(path, monkeypatch):
    """Words and numbers of a digit or two the same; pictures to a grey level or so, whatever machine made them."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    notebook = RUN.read_notebook(path)
    stored = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for before, now in zip(stored, RUN.run_notebook(notebook), strict=True):
        (text, pictures), (text_now, pictures_now) = shown(before), shown(now)
        number = r"-?\d+\.\d+"
        assert re.sub(number, "#", text) == re.sub(number, "#", text_now)
        for a, b in zip(re.findall(number, text), re.findall(number, text_now), strict=True):
            assert float(a) == pytest.approx(float(b), abs=0.11), (text, text_now)
        assert len(pictures) == len(pictures_now)
        for a, b in zip(pictures, pictures_now, strict=True):
            assert a.shape == b.shape and np.abs(a.astype(float) - b).mean() < 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_was_run(path):
    """In order, without errors, with small pictures, and in the format that Jupyter writes."""
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in code:
        assert not [o for o in cell["outputs"] if o["output_type"] == "error"]
        assert all(len(o.get("data", {}).get("image/png", "")) < PICTURE_BYTES for o in cell["outputs"])
    assert any(shown(cell)[1] for cell in code), "a notebook of a project about pictures shows one"
    for target in re.findall(r"\]\(([^)]+)\)", "".join("".join(c["source"]) for c in notebook["cells"])):
        assert (path.parent / target.partition("#")[0]).exists(), target
