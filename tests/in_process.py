"""An entry point called inside the test's process, as if it were a program of its own: its start-up is paid once."""

import contextlib
import contextvars
import gc
import io
import os
import random
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from common.run_folder import RunFolder

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def run_here(args: list[str], *, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What ``python ARGS`` (a script, or -m and a module) would print and exit with.

    The file is run under the name ``__main__``, so that its own last lines decide about errors and exit codes. What a
    process takes with it when it ends is put back: arguments, folder, environment, signal handlers, random generators,
    torch's settings, open runs of W&B and the locks of run folders. Programs that start others by their own command
    line, that are killed, or whose warnings "once per process" matter, need helpers.call_process.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    with _put_back(args, cwd, env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            # a context of its own: jsonargparse leaves its parser, and so the whole command, in a context variable
            contextvars.copy_context().run(_run, args, cwd)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
            if isinstance(leaving.code, str):
                print(leaving.code, file=sys.stderr)
        except Exception:
            code = 1
            traceback.print_exc()
        _close_wandb()
    _free_run_folders()
    return subprocess.CompletedProcess(["python", *args], code, out.getvalue(), err.getvalue())


def _run(args: list[str], cwd: Path) -> None:
    if args[0] == "-m":
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(cwd / args[0]), run_name="__main__")


@contextlib.contextmanager
def _put_back(args: list[str], cwd: Path, env: Mapping[str, str]) -> Iterator[None]:
    before = sys.argv, Path.cwd(), dict(os.environ), {s: signal.getsignal(s) for s in SIGNALS}, list(sys.path)
    settings = (
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
    )
    states = random.getstate(), np.random.get_state()
    sys.argv = args[1:] if args[0] == "-m" else list(args)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.simplefilter("default")
            warnings.filterwarnings("ignore", message=".*found in sys.modules after import", category=RuntimeWarning)
            warnings.showwarning = lambda message, kind, name, line, *_: sys.stderr.write(
                warnings.formatwarning(message, kind, name, line)
            )
            yield
    finally:
        sys.argv, folder, environment, handlers, sys.path[:] = before
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        torch.set_num_threads(settings[0])
        torch.set_float32_matmul_precision(settings[1])
        torch.use_deterministic_algorithms(settings[2])
        random.setstate(states[0])
        np.random.set_state(states[1])


def _free_run_folders() -> None:
    """Their locks go with the process, or with the last that knows them, which may be a cache of a library."""
    gc.collect()
    for folder in (o for o in gc.get_objects() if type(o) is RunFolder):  # isinstance wakes what imports late
        if folder._lock is not None:
            folder._lock.close()


def _close_wandb() -> None:
    wandb = sys.modules.get("wandb")
    if wandb is not None and getattr(wandb, "run", None) is not None:
        wandb.finish()
