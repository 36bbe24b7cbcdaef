"""A method at work while a person waits: a bar, the newest estimate on the disk, and what Ctrl-C and TERM do."""

import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from common.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, UserError
from common.random_streams import RandomStreams
from common.stop_signals import ignore_stop_signals
from degradations.measurement import Measurement
from inference.iterates import Iterates
from restoration.base import Method, Restoration

EVERY = 60.0  # seconds between two estimates on the disk, and between two lines where there is no terminal


def restore_watched(
    method: Method,
    measurement: Measurement,
    *,
    num_samples: int,
    random: RandomStreams,
    name: str,
    iterates: Iterates | None,
    save: Callable[[Tensor], None],
) -> tuple[Restoration, int]:
    """method.restore with a bar on a terminal, and elsewhere a line a minute; and the exit code of what ended it early,
    0 where nothing did.

    save(estimate [N, C, H, W]) is called once a minute, so that a kill does not take everything.

    Ctrl-C (130) or a stop signal (75) after the first step ends the method: the restoration is its newest estimate, and
    a note says so. UserError where memory runs out.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("at most"),
        TimeRemainingColumn(),
    )
    newest: tuple[int, Tensor] | None = None
    began = saved = said = time.monotonic()
    terminal = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not terminal) as bar:
        task = bar.add_task(name, total=None)

        def on_step(step: int, total: int, estimate: Tensor) -> None:
            nonlocal newest, saved, said
            newest = step + 1, estimate
            if iterates is not None:
                iterates(step, total, estimate)
            if time.monotonic() - saved > EVERY and bool(torch.isfinite(estimate).all()):
                save(estimate)
                saved = time.monotonic()
            bar.update(task, completed=step + 1, total=total)
            now = time.monotonic()
            if not terminal and now - said >= EVERY:
                left = (now - began) * (total - step - 1) / (step + 1)
                print(f"{name}: {step + 1} of {total}, at most {left / 60:.1f} min left", file=sys.stderr, flush=True)
                said = now

        try:
            return method.restore(measurement, num_samples=num_samples, random=random, on_step=on_step), 0
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise UserError(
                "there is not enough memory for this picture: give a smaller one, fewer --num_samples, or --device cpu"
            ) from error
        except (KeyboardInterrupt, SystemExit) as stop:
            if newest is None:
                raise
            ignore_stop_signals()
            step, estimate = newest
            note = (
                f"interrupted after iteration {step}: this is the estimate of that moment, not the answer that the"
                " method would have chosen"
            )
            samples = estimate.detach().unflatten(0, (-1, num_samples))
            code = EXIT_INTERRUPTED if isinstance(stop, KeyboardInterrupt) else EXIT_PREEMPTED
            return Restoration(samples=samples, cost=method.calls(), notes=(note,)), code
