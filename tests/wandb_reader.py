"""What W&B's own reader finds in the file of an offline run."""

import json
import subprocess
import sys
from pathlib import Path


def records(file: Path) -> list[dict]:
    """Of a .wandb file, in their order."""
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    result = subprocess.run(reader, capture_output=True, text=True, timeout=120)
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def contents(artifact: dict) -> dict[str, str]:
    """The files of an artifact's record by their names in it: where they are."""
    return {file["path"]: file["local_path"] for file in artifact["artifact"]["manifest"]["contents"]}
