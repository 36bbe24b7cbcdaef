"""Runs the notebooks of this folder from the repository's folder and stores what they show, without Jupyter.

    python examples/run_notebooks.py examples/*.ipynb

A cell shows what it prints and the value of its last line: a picture of Pillow as PNG, other values as text.
"""

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook as JSON has it."""
    return json.loads(path.read_text(encoding="utf-8"))


def run_cell(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run one cell in `names`; its outputs in the notebook format."""
    tree, printed, value = ast.parse(source), io.StringIO(), None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(True)})
    if value is not None:
        data: dict[str, Any] = {"text/plain": repr(value).splitlines(True)}
        if hasattr(value, "save"):
            png = io.BytesIO()
            value.save(png, "PNG", optimize=True)
            data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": ["a picture"]}
        outputs.append({"output_type": "execute_result", "data": data, "metadata": {}})
    return outputs


def run_notebook(notebook: dict[str, Any]) -> list[Cell]:
    """The code cells with the outputs of now, in order; one namespace for all."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = []
    for number, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), 1):
        outputs = run_cell("".join(cell["source"]), names)
        for output in outputs:
            if output["output_type"] == "execute_result":
                output["execution_count"] = number
        cells.append({**cell, "execution_count": number, "outputs": outputs})
    return cells


def store(path: Path) -> None:
    """Run the notebook at `path` and write its outputs into it."""
    notebook = read_notebook(path)
    done = iter(run_notebook(notebook))
    notebook["cells"] = [next(done) if c["cell_type"] == "code" else c for c in notebook["cells"]]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    for argument in sys.argv[1:]:
        store(Path(argument))
