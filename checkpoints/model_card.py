"""README.md of a released prior: data, network, noise, training, weights and measurements, from what its checkpoint and
its run folder say.
"""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from checkpoints.prior import LoadedPrior
from common.errors import UserError, disk_message
from common.files import sha256_of

_CONFIG = ("seed_everything", "model", "data", "trainer", "ema")  # what the training depends on
_PRIVATE = {"data_dir", "default_root_dir", "logger", "callbacks", "plugins", "profiler"}


def model_card(
    prior: LoadedPrior, *, name: str, source: Path, weights: str, dtype: str, tables: Sequence[Path] = ()
) -> str:
    """Markdown with the hub's header. source: the checkpoint; beside it, in the run folder, metrics.csv and config.yaml
    are read where they are there.

    tables: .csv files of measurements that are put in as they are. UserError for one that cannot be read.
    """
    description, denoiser = prior.description, prior.denoiser
    data, training = description["data"], description.get("training") or {}
    channels, height, width = data["shape"]
    run = source.parent.parent if source.is_file() else source
    made = "converted" if "source" in training else "trained"
    parameters = sum(p.numel() for p in denoiser.network.parameters())
    parts = [
        (
            "---\nlibrary_name: diffusers\npipeline_tag: unconditional-image-generation\ntags:\n- diffusers\n-"
            " unconditional-image-generation\n- ddpm\n---\n"
        ),
        f"# {name}\n",
        (
            f"A diffusion prior of {width}x{height} {'grey' if channels == 1 else 'colour'} pictures, {parameters:,}"
            f" parameters, {made} with Palimpsest.\n"
        ),
        "```python\nfrom diffusers import DDPMPipeline\n\n"
        f'pipeline = DDPMPipeline.from_pretrained("{name}")\npipeline(batch_size=4,'
        f' num_inference_steps={denoiser.num_timesteps}).images[0].save("picture.png")\n```\n',
        "Palimpsest reads the same folder: `python restore.py IN.png --method dps --prior FOLDER --output DIR`.\n",
        "## Data\n",
        markdown_table(
            {"data set": data["name"], "pictures": f"{channels} x {height} x {width}, values in {data['range']}"}
        ),
        "## Training\n",
        markdown_table(
            {
                "images seen": f"{training['images']:,}" if isinstance(training.get("images"), int) else "not known",
                **{key: public_values(value) for key, value in training.items() if key != "images"},
                "prediction": description["prediction"],
                "variance": description.get("variance", "fixed"),
                "schedule": description["schedule"],
                "network": description["network"],
            }
        ),
        config_of_run(run / "config.yaml"),
        "## Weights\n",
        markdown_table(
            {
                "which": {"ema": "exponential average", "raw": "raw, not averaged"}.get(weights, weights),
                "stored as": dtype,
                "checkpoint": f"`{source.name}`",
                "fingerprint": prior.fingerprint if not source.is_file() else f"sha256 {sha256_of(source)}",
            }
        ),
        "## Metrics\n",
        *(_measured(run / "metrics.csv", training.get("steps")), *(given_table(path) for path in tables)),
    ]
    if not parts[-1] and not tables:
        parts.append("None were given when this folder was written.\n")
    return "\n".join(part for part in parts if part)


def _measured(path: Path, steps: Any) -> str:
    """The last validation up to the step of the checkpoint, from metrics.csv of the run."""
    if not path.is_file():
        return ""
    last: dict[str, str] = {}
    for row in rows_of(path):
        if steps is not None and row.get("step", "").isdigit() and int(row["step"]) > steps:
            break
        last.update(
            {
                k: f"{v} (step {row.get('step', '?')})"
                for k, v in row.items()
                if k and v and not k.startswith("train/") and "/" in k
            }
        )
    return markdown_table(last) if last else ""


def given_table(path: Path) -> str:
    rows = rows_of(path)
    if not rows:
        raise UserError(f"--metrics '{path}' has no rows")
    columns = list(rows[0])
    lines = [_line(columns), _line(["---"] * len(columns)), *(_line([row[c] or "" for c in columns]) for row in rows)]
    return f"{path.name}:\n\n" + "\n".join(lines) + "\n"


def rows_of(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"'{path}' is not a table of comma-separated values: {error}") from error
    except OSError as error:
        raise UserError(
            disk_message(error) or f"'{path}' cannot be read ({error.strerror}): give the path of a .csv file"
        ) from error


def config_of_run(path: Path) -> str:
    """The configuration of the run, without what is of one machine only and what was left open."""
    if not path.is_file():
        return ""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    kept = public_values({k: content[k] for k in _CONFIG if k in content})
    text = yaml.safe_dump(kept, sort_keys=False)
    return f"<details><summary>configuration</summary>\n\n```yaml\n{text}```\n\n</details>\n"


def public_values(value: Any) -> Any:
    """Without private and open entries; of a path on this machine only its last part."""
    if isinstance(value, dict):
        return {k: public_values(v) for k, v in value.items() if k not in _PRIVATE and v is not None}
    if isinstance(value, str) and (
        value.startswith("~") or PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    ):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return [public_values(v) for v in value] if isinstance(value, list) else value


def markdown_table(values: dict[str, Any]) -> str:
    def text(value: Any) -> str:
        return f"`{json.dumps(value)}`" if isinstance(value, (dict, list)) else str(value)

    return (
        "\n".join(
            [_line(["", ""]), _line(["---", "---"]), *(_line([key, text(value)]) for key, value in values.items())]
        )
        + "\n"
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
