"""The W&B logger of a training run: online where it can be, else offline, and one run however often it is continued."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from common.private_names import without_anonymous
from common.run_folder import RunFolder, is_first_process
from common.wandb_options import WandbOptions


class UntilItEnds(WandbLogger):
    """W&B's logger, without which a run goes on when W&B's own process has ended: SLURM tells every process of a job
    step to stop, that one too, and the run has its step to end and to save.
    """

    _ended = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._while_it_lives(lambda: super(UntilItEnds, self).log_metrics(metrics, step))

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        self._while_it_lives(lambda: super(UntilItEnds, self).log_image(key, images, step, **kwargs))

    def _while_it_lives(self, log: Callable[[], None]) -> None:
        if self._ended:
            return
        try:
            log()
        except ConnectionError as error:
            self._ended = True
            print(
                f"W&B's process has ended ({error}): what follows is in metrics.csv and samples/ alone, until the same"
                " command goes on",
                flush=True,
            )


def wandb_logger(options: WandbOptions, run: RunFolder, config: dict[str, Any]) -> WandbLogger | None:
    """The logger, its config written; None where W&B is switched off.

    Args:
        options: where to log; a server that cannot be reached ends in a log offline, which is said.
        run: the run folder: its name is the run's name, and it holds the files and the id.
        config: the whole config (plain), shown in W&B; asked for in the first process only.
    """
    mode = options.resolved_mode()
    if mode == "disabled":
        return None
    from wandb.errors import Error as WandbError  # late: it takes half a second, which a run without it does not spend

    fixed: dict[str, Any] = {
        "project": options.project,
        "name": run.path.name,
        "save_dir": str(run.path),
        "group": options.group,
        "tags": options.tags,
    }
    if not is_first_process():
        return UntilItEnds(**fixed, offline=True)  # logs nothing: only the first process does
    logger = UntilItEnds(**fixed, id=run.wandb_id(), job_type="train", offline=mode == "offline")
    without_anonymous(logger)
    try:
        logger.log_hyperparams(config)
        # Rows of validation and quality do not carry the number of images themselves, and a graph against it would
        # leave them out.
        logger.experiment.define_metric("images")
        logger.experiment.define_metric("*", step_metric="images", step_sync=True)
    except WandbError as error:
        if mode == "offline":
            raise
        reason = " ".join(str(error).split())[:200]
        print(f"W&B cannot be reached ({reason}): logging offline, send it later with wandb sync")
        offline = WandbOptions(mode="offline", project=options.project, group=options.group, tags=options.tags)
        return wandb_logger(offline, run, config)
    return logger


def finish_wandb(exit_code: int) -> None:
    """End the run of this process: left to W&B's helper process, its last words reach log files with escape codes.

    What goes wrong there is said and changes nothing of the run, nor of its exit code.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None or getattr(wandb, "run", None) is None:
        return
    try:
        wandb.finish(exit_code=exit_code)
    except Exception as error:  # of many kinds where its process has ended
        with contextlib.suppress(Exception, SystemExit):  # with the code of that process
            wandb.teardown(exit_code=exit_code)  # else it is tried on the way out, and ends in a trace
        print(f"W&B was not ended in order ({' '.join(str(error).split())[:200]}): wandb sync sends what it has")
