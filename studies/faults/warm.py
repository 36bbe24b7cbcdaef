"""Programs that begin after their imports: a process that has made them once is forked for each start.

    python -m studies.faults.warm        reads a line of JSON for each program from standard input

Importing torch and Lightning takes most of the time of a tiny program. What happens at a moment after that does not
depend on it.
"""

import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

# What the entry points import late. By name: no file of this room needs them.
MODULES = (
    "common.late_torchmetrics",
    "common.torchvision_remedy",
    "training.cli",
    "training.wandb_logger",
    "networks.unet",
    "lightning_modules.ddpm",
    "datamodules.image_folder",
    "evaluation.config",
    "evaluation.run",
    "restoration.dps",
    "inference.restore_one",
)


class Started:
    """A program that was forked: what is asked of subprocess.Popen."""

    def __init__(self, pid: int, code: Path) -> None:
        self.pid, self._code = pid, code

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        text = self._code.read_text() if self._code.exists() else ""
        return int(text) if text.endswith("\n") else None

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("a program that was forked", timeout or 0.0)
            time.sleep(0.01)
        return code


class Warm:
    """The process that is forked."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "SLURM_"))}
        how: dict[str, Any] = {"stdin": subprocess.PIPE, "text": True, "start_new_session": True}
        fixed = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        words = [sys.executable, "-m", "studies.faults.warm"]
        self._lock = threading.Lock()  # cases may run at once
        self._process = subprocess.Popen(words, cwd=Path(__file__).parents[2], env={**environment, **fixed}, **how)

    def start(self, words: list[str], environment: dict[str, str], said: Path) -> Started:
        """`words` without the interpreter."""
        pid, code = said.with_suffix(".pid"), said.with_suffix(".code")
        pid.unlink(missing_ok=True)
        code.unlink(missing_ok=True)
        request = {"words": words, "environment": environment, "said": str(said), "pid": str(pid), "code": str(code)}
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        while not (text := pid.read_text() if pid.exists() else "").endswith("\n"):
            if self._process.poll() is not None:
                raise RuntimeError("the process that programs are forked from has ended: leave --warm out")
            time.sleep(0.01)
        return Started(int(text), code)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def _serve() -> dict[str, Any] | None:
    """Fork for each line; in the child, what it has to be. None at the end of the input."""
    lines = os.fdopen(0, "rb", buffering=0, closefd=False)  # select sees all that is left
    codes: dict[int, str] = {}
    while True:
        if select.select([lines], [], [], 0.02)[0]:
            line = lines.readline()
            if not line:
                return None
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return request
            codes[pid] = request["code"]
            Path(request["pid"]).write_text(f"{pid}\n")
        while codes:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if not ended:
                break
            Path(codes.pop(ended)).write_text(f"{os.waitstatus_to_exitcode(status)}\n")


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    request = _serve()
    if request is None:
        return
    os.setsid()
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for descriptor in (1, 2):
        os.dup2(said, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["words"]
    sys.path[0] = os.getcwd()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
