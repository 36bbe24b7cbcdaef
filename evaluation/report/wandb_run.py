"""One evaluation as one run of Weights & Biases, where the configuration asks for it."""

from pathlib import Path
from typing import Any, cast

from common.wandb_options import WandbOptions
from evaluation.progress import say
from evaluation.report.wandb_entry import WandbEntry


def log_run(
    entry: WandbEntry, folder: Path, *, config: dict[str, Any], logged: dict[str, Any], summary: dict[str, float | str]
) -> None:
    """A run of job type "evaluation" with `logged` and `summary`; offline where W&B cannot be reached; nothing where
    the mode is disabled.

    logged: tables as (columns, rows), pictures as paths.
    """
    mode = WandbOptions(mode=cast(Any, entry.mode)).resolved_mode()
    if mode == "disabled":
        return
    import wandb  # here: it takes a second, which an evaluation without it does not spend
    from wandb.errors import Error

    fixed = {
        "project": entry.project,
        "group": entry.group,
        "job_type": "evaluation",
        "name": folder.name,
        "dir": str(folder),
        "config": config,
    }
    try:
        run = wandb.init(**fixed, mode=cast(Any, mode))
    except Error as error:
        if mode == "offline":
            raise
        mode = "offline"
        say(
            f"W&B cannot be reached ({' '.join(str(error).split())[:200]}): logging offline, send it later with wandb"
            " sync"
        )
        run = wandb.init(**fixed, mode=cast(Any, mode))
    run.log(
        {
            name: wandb.Image(str(v)) if isinstance(v, Path) else wandb.Table(columns=v[0], data=v[1])
            for name, v in logged.items()
        }
    )
    run.summary.update(summary)
    run.finish()
    say(f"W&B ({mode}): run {run.id} in project {entry.project}")
