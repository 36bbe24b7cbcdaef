"""The undisturbed runs that disturbed ones are compared with."""

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.files import write_atomically
from studies.faults.programs import INPUTS, ROOT, Program, Result, whole_command

PATIENCE = 1500.0


@dataclass(frozen=True)
class Twin:
    """What the undisturbed program leaves, and the seconds that it takes."""

    result: Result
    seconds: float


def twin_of(program: Program, folder: Path) -> Twin:
    """Made once, and kept below `folder`, beside the inputs.

    Raises:
        RuntimeError: the undisturbed program fails.
    """
    name = program.name.replace(", ", "_").replace(" ", "_")
    kept = folder / "twins" / f"{name}.json"
    if not kept.exists():
        print(f"{program.name}, undisturbed", flush=True)
        twin = _run(program, folder / "twins" / name)
        if program.name == "train":  # the prior of the evaluation
            last = folder / "twins/train/run/checkpoints/last.ckpt"
            write_atomically(folder / INPUTS / "prior.ckpt", last.read_bytes())
        write_atomically(kept, json.dumps(asdict(twin)))
    return Twin(**json.loads(kept.read_text()))


def start(command: Sequence[str], environment: dict[str, str], said: Path) -> subprocess.Popen:
    """A program in a session of its own; what it prints goes into the file `said`."""
    with said.open("w") as file:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _run(program: Program, folder: Path) -> Twin:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun, said = time.monotonic(), folder / "said.txt"
    code = start(whole_command(program, folder), program.environment(folder), said).wait(PATIENCE)
    if code:
        raise RuntimeError(f"the undisturbed {program.name} ended with {code}: {said.read_text()[-2000:]}")
    return Twin(program.result(folder), time.monotonic() - begun)
