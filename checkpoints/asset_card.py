"""The page beside a released .safetensors file: what it is, how it was made, its hash, and how it learned."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from checkpoints.model_card import config_of_run, given_table, markdown_table, public_values, rows_of
from common.files import sha256_of

CURVE_ROWS = 10
CURVE = ("val/loss", "quality/fid", "quality/kid", "quality/inception_score")


def asset_card(
    network: nn.Module,
    description: dict[str, Any],
    *,
    source: Path,
    output: Path,
    weights: str,
    dtype: str,
    tables: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> str:
    """Markdown of a file that was just written.

    Args:
        network: whose weights it holds.
        description: of the prior or the cold restorer.
        source: the checkpoint that it was made of; in its run folder config.yaml and metrics.csv are read where they
            are there.
        output: the file.
        weights: which: "ema", "raw" or words.
        dtype: of the stored numbers.
        tables: .csv files of measurements that are put in as they are.
        notes: sentences of the one who releases it: what it is for, a licence.

    Raises:
        UserError: a table that cannot be read or has no rows.
    """
    run = source.parent.parent
    data, training = description["data"], dict(description.get("training") or {})
    images, steps = training.pop("images", None), training.pop("steps", None)
    channels, height, width = data["shape"]
    pictures = f"{data['name']}, {width}x{height} {'grey' if channels == 1 else 'colour'}, values in {data['range']}"
    seen = f"{images:,} in {steps:,} steps" if isinstance(images, int) and isinstance(steps, int) else "not known"
    parameters = sum(p.numel() for p in network.parameters())
    told = {
        "what": f"{description['kind']}, `{type(network).__name__}` of {parameters:,} parameters",
        **{key: description[key] for key in ("prediction", "variance", "schedule", "severities") if key in description},
        "data": pictures,
        "images seen": seen,
        **public_values(training),
        "weights": f"{ {'ema': 'exponential average', 'raw': 'raw, not averaged'}.get(weights, weights) }, {dtype}",
        "size, SHA-256": f"{output.stat().st_size:,} bytes, `{sha256_of(output)}`",
        "made from": f"`{source.name}` of the run `{run.resolve().name}`, sha256 `{sha256_of(source)[:16]}…`"
        if source.suffix == ".ckpt"
        else f"`{source.name}`",
        "network": public_values(description["network"]),
    }
    curve = curve_of_run(run / "metrics.csv", steps) if source.suffix == ".ckpt" else ""
    parts = [
        f"# {output.name}\n",
        markdown_table(told),
        *(textwrap.fill(note, 120, break_long_words=False, break_on_hyphens=False) + "\n" for note in notes),
        f"## Curve\n\n{curve}" if curve else "",
        "## Measured\n" if tables else "",
        *(given_table(path) for path in tables),
        config_of_run(run / "config.yaml") if source.suffix == ".ckpt" else "",
    ]
    return "\n".join(part for part in parts if part)


def curve_of_run(path: Path, steps: int | None) -> str:
    """Loss and quality over the images seen, at most ten rows of metrics.csv up to a step, the last one among them; ""
    where there are none.
    """
    if not path.is_file():
        return ""
    each, found = 0.0, []
    for row in rows_of(path):
        if not row.get("step", "").isdigit() or (steps is not None and int(row["step"]) >= steps):
            continue
        step = int(row["step"]) + 1
        if row.get("images"):
            each = float(row["images"]) / step  # validations are rows without it
        values = {name: row[name] for name in CURVE if row.get(name)}
        if values:
            found.append({"images seen": f"{round(each * step):,}" if each else "", "step": f"{step:,}", **values})
    if not found:
        return ""
    count = min(len(found), CURVE_ROWS)
    chosen = [found[round(k * (len(found) - 1) / max(1, count - 1))] for k in range(count)]
    chosen[-1] = found[-1]
    columns = ["images seen", "step", *(name for name in CURVE if any(name in row for row in chosen))]
    lines = [columns, ["---"] * len(columns), *([row.get(c, "") for c in columns] for row in chosen)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
