"""Where a run goes on: from its newest checkpoint that can be read; and whether it has come to its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Timer

from checkpoints.files import read_checkpoint_file
from common.errors import UserError
from common.run_folder import RunFolder, is_first_process
from lightning_modules.run_module import RunModule


@dataclass(frozen=True)
class GoingOn:
    """The checkpoint, its step, the rows that metrics.csv had then (None: it does not say), and a newer checkpoint that
    cannot be read.
    """

    checkpoint: Path
    step: int
    rows: int | None
    damaged: Path | None = None

    def set_aside_damaged(self, run: RunFolder) -> None:
        """Keep the next checkpoint from replacing the good one by the damaged one."""
        if self.damaged is not None:
            run.set_aside(self.damaged)


def going_on(run: RunFolder) -> GoingOn | None:
    """Where the run in this folder goes on; None where it has no checkpoint.

    Raises:
        UserError: there are checkpoints, and none can be read.
    """
    reasons: list[str] = []
    for path in run.checkpoints:
        try:
            content = read_checkpoint_file(path)
        except UserError as error:
            reasons.append(str(error))
            continue
        if reasons and is_first_process():
            print(
                f"'{run.checkpoints[0]}' cannot be read: going on from the one before, '{path.name}' of step"
                f" {content['global_step']}",
                flush=True,
            )
        damaged = run.checkpoints[0] if reasons else None
        return GoingOn(path, int(content["global_step"]), content.get("metrics_rows"), damaged)
    if reasons:
        raise UserError(reasons[0])
    return None


def is_over(run: RunFolder, options: Any) -> bool:
    """Whether the run in this folder has come to its end and nothing more is asked of it, which is said.

    Args:
        options: of the trainer.
    """
    finished = run.finished()
    if finished is None:
        return False
    complete = finished.get("complete", False)
    if options.max_steps >= 0:
        enough = finished["step"] >= options.max_steps
    else:
        enough = finished["max_epochs"] >= (options.max_epochs or 0)
    if not (complete or enough):
        return False
    if is_first_process():
        more = "" if complete else ", or a larger trainer.max_steps or max_epochs"
        print(
            f"run '{run.path}' is finished: {finished['step']} steps, {finished['images']} images; give another"
            f" --run{more}"
        )
    return True


def end_of(run: RunFolder, trainer: Any, model: RunModule) -> None:
    """Say how training ended, and mark the run as finished where it is: a time that is over finishes nothing."""
    step = trainer.global_step
    if trainer.fast_dev_run:
        print("trainer.fast_dev_run: a trial of a step or so, nothing of it is kept", flush=True)
    elif not model.complete and _out_of_time(trainer):
        print(
            f"stopped at step {step} by trainer.max_time, saved: the run is not finished, the same command goes on for"
            " as long again",
            flush=True,
        )
    else:
        epochs = trainer.max_epochs or 0
        run.mark_finished(step=step, images=model.images_seen, max_epochs=epochs, complete=model.complete)
        print(f"finished: {step} steps, {model.images_seen} images, in '{run.path}'")


def _out_of_time(trainer: Any) -> bool:
    """Whether trainer.max_time has ended the run before its last step or epoch."""
    steps, epochs = trainer.max_steps, trainer.max_epochs
    if (0 < steps <= trainer.global_step) or (epochs is not None and 0 <= epochs <= trainer.current_epoch):
        return False
    left = [c.time_remaining() for c in trainer.callbacks if isinstance(c, Timer)]
    return any(seconds is not None and seconds <= 0 for seconds in left)
