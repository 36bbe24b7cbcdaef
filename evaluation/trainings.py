"""The commands that make the checkpoints which a configuration needs and which are not shipped, in order.

A checkpoint below runs/NAME is made by configs/train/NAME.yaml, one below runs/sweeps/FILE/NAME by the combination NAME
of configs/sweeps/FILE.yaml; of another the entry of the prior says it, trained_by.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.build import PROJECT
from common.errors import UserError
from common.run_folder import RunFolder
from common.yaml_files import read_yaml
from evaluation.config import Config
from evaluation.generation.config import GenerationConfig


@dataclass(frozen=True)
class Training:
    """One run of train.py. run: its folder. words: the command behind "python". needs: run folders of others."""

    run: Path
    words: tuple[str, ...]
    needs: tuple[Path, ...] = ()

    @property
    def command(self) -> str:
        """To paste; the run folder only where it is not the one that train.py would take."""
        *words, folder = self.words
        configs = _configs(self.words)
        if configs and folder == f"--run={Path('runs') / Path(configs[0]).stem}":
            return shlex.join(["python", *words])
        return shlex.join(["python", *self.words])

    @property
    def state(self) -> str:
        """ "finished", "begun" (its checkpoint serves, and the same command goes on) or "missing"."""
        folder = RunFolder(self.run)
        if folder.finished() is not None:
            return "finished"
        if folder.last_checkpoint is None:
            return "missing"
        return "begun" if folder.config_file.is_file() else "finished"  # a checkpoint that was put there


def trainings_of(config: Config | GenerationConfig) -> list[Training]:
    """Those of all checkpoints that the configuration names, each once, in an order in which they can run.

    Raises:
        UserError: a trained_by that is no training config, or trainings that need each other.
    """
    named = [(path, p.trained_by) for p in config.priors.values() for path in (p.path, *(a.path for a in p.adapters))]
    said = {run: by for path, by in named if by is not None and (run := _run_folder(path))}
    found: dict[Path, Training] = {}

    def add(path: str | Path, above: tuple[Path, ...]) -> None:
        run = _run_folder(str(path))
        training = training_of(str(path), said.get(run)) if run else None
        if training is None or training.run in found:
            return
        if training.run in above:
            circle = " and ".join(f"'{folder}'" for folder in above)
            raise UserError(f"the trainings of {circle} need each other: mend their priors")
        for folder in training.needs:
            add(folder / "checkpoints/last.ckpt", (*above, training.run))
        found[training.run] = training

    for path in [*(path for path, _ in named), *_texts(config.plain())]:
        add(path, ())
    return list(found.values())


def training_of(path: str, trained_by: str | None = None) -> Training | None:
    """What makes the checkpoint or adapter at `path`; None where nobody says it."""
    run = _run_folder(path)
    if run is None:
        return None
    config = Path("configs/train") / f"{run.name}.yaml"
    if trained_by is not None:
        first, *options = shlex.split(trained_by)
        if not _place(first).is_file():
            raise UserError(f"priors: trained_by '{trained_by}' must begin with a training config, such as '{config}'")
        words = ["train.py", "fit", "--config", first, *options, f"--run={run}"]
    elif run.parts == ("runs", run.name) and _place(config).is_file():
        words = ["train.py", "fit", "--config", str(config), f"--run={run}"]
    elif run.parts[:2] == ("runs", "sweeps") and len(run.parts) == 4:
        words = _of_sweep(Path("configs/sweeps") / f"{run.parts[2]}.yaml", run.name)
    else:
        words = []
    if not words:
        return None
    named = [*words, *(t for file in _configs(words) for t in _texts(read_yaml(_place(file))))]
    others = [other for text in named if text != words[-1] and (other := _run_folder(text.partition("=")[2] or text))]
    return Training(run, tuple(words), tuple(dict.fromkeys(o for o in others if o != run)))


def refuse_untrained(name: str, path: str, trained_by: str | None) -> None:
    """UserError for a checkpoint or adapter that is not there and that a training makes: which one, and all of them."""
    training = None if Path(path).exists() else training_of(path, trained_by)
    if training is not None:
        raise UserError(
            f"priors.{name}: there is no '{path}' yet: {training.command} makes it, and python -m studies.chain with"
            " the options of this command all that is missing, and then evaluates"
        )


def _run_folder(path: str) -> Path | None:
    """RUN of RUN/checkpoints/FILE and RUN/adapter."""
    if len(path) > 1000 or "\n" in path:
        return None
    place = Path(path)
    return next((p.parent for p in (place, *place.parents) if p.name in ("checkpoints", "adapter")), None)


def _of_sweep(file: Path, name: str) -> list[str]:
    """The words of a combination, as sweep.py lists it; none where there is no such file or combination."""
    if not _place(file).is_file():
        return []
    asked = [sys.executable, str(PROJECT / "sweep.py"), "list", str(file)]
    listed = subprocess.run(asked, cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode != 0:
        raise UserError(f"'{file}' cannot be listed by sweep.py: {listed.stderr.strip()}")
    lines = listed.stdout.splitlines()
    command = next((b for a, b in pairwise(lines) if re.fullmatch(rf"\s*\d+  {re.escape(name)}  \w+", a)), "")
    words = shlex.split(command)[1:]
    run = [w for w in words if w.startswith("--run=")]
    return [*(w for w in words if w not in run), *run]


def _place(path: str | Path) -> Path:
    """Of this project where it is not in the working folder."""
    return Path(path) if Path(path).exists() else PROJECT / path


def _configs(words: tuple[str, ...] | list[str]) -> list[str]:
    follows = [b for a, b in pairwise(words) if a == "--config"]
    return [*follows, *(w.removeprefix("--config=") for w in words if w.startswith("--config="))]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
