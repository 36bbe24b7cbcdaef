"""What is known of the runs of a sweep: a small file for each, beside the run folders."""

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.files import write_atomically
from sweeps.expand import Combination, Sweep


@dataclass(frozen=True)
class State:
    """status: "finished", "failed" (exit code other than 0), "interrupted", or "outdated" (its command or its config is
    another one now), "missing" (also where its folder was removed).

    seconds: of all its attempts together.
    """

    status: str
    seconds: float = 0.0


class Places:
    """OUTPUT/NAME/ the run folder, OUTPUT/.sweep/NAME.json its state, OUTPUT/.sweep/NAME.log what it printed."""

    def __init__(self, sweep: Sweep, output: str | Path | None = None) -> None:
        self.output = Path(output or Path("runs/sweeps") / sweep.path.stem)

    def run(self, combination: Combination) -> Path:
        return self.output / combination.name

    def log(self, combination: Combination) -> Path:
        return self.output / ".sweep" / f"{combination.name}.log"

    def state(self, combination: Combination) -> State:
        """As the last attempt left it."""
        stored = self._read(combination)
        if stored is None:
            return State("missing")
        if stored["of"] != _of(combination):
            return State("outdated")
        if stored["status"] == "finished" and not self.run(combination).exists():
            return State("missing")
        return State(stored["status"], stored["seconds"])

    def write(self, combination: Combination, status: str, seconds: float) -> None:
        """After an attempt of `seconds`."""
        stored, of = self._read(combination), _of(combination)
        before = stored["seconds"] if stored is not None and stored["of"] == of else 0.0
        content = {"status": status, "seconds": round(before + seconds, 1), "of": of}
        write_atomically(self.output / ".sweep" / f"{combination.name}.json", json.dumps(content, indent=1))

    def _read(self, combination: Combination) -> dict[str, Any] | None:
        path = self.output / ".sweep" / f"{combination.name}.json"
        return json.loads(path.read_text()) if path.is_file() else None


def config_files(words: tuple[str, ...]) -> list[str]:
    """The files behind --config and --config=."""
    following = [b for a, b in pairwise(words) if a in ("--config", "-c")]
    return following + [w.removeprefix("--config=") for w in words if w.startswith("--config=")]


def _of(combination: Combination) -> dict[str, Any]:
    """What a result belongs to: the command and the content of its configs."""
    configs = {
        f: hashlib.sha256(Path(f).read_bytes()).hexdigest()[:16]
        for f in config_files(combination.words)
        if Path(f).is_file()
    }
    return {"words": list(combination.words), "configs": configs}
