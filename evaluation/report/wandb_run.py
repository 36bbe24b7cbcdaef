"""One evaluation as one run of Weights & Biases, where the configuration asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from common.run_folder import RunFolder
from common.wandb_options import WandbOptions
from evaluation.progress import say
from evaluation.report.wandb_entry import WandbEntry

#: What is kept of the folder beside the tables, as one artifact of type "evaluation".
FILES = (
    "report.html",
    *("table.csv", "table.md", "table.tex", "ranks.csv"),
    *("rows.csv", "sets.csv", "distribution.csv", "bias.csv"),
    "config.yaml",
)


@dataclass(frozen=True)
class Chart:
    """A plot of W&B's own over the rows of a table: kind "bar" (axes: a name, a number) or "scatter" (two numbers)."""

    kind: Literal["bar", "scatter"]
    title: str
    axes: tuple[str, str]
    columns: list[str]
    rows: list[list[Any]]


def log_run(
    entry: WandbEntry,
    folder: Path,
    *,
    config: dict[str, Any],
    logged: dict[str, Any],
    summary: dict[str, float | str],
    priors: Mapping[str, str] = {},
) -> None:
    """A run of job type "evaluation" with `logged`, `summary`, and the report with its tables as an artifact; offline
    where W&B cannot be reached; nothing where the mode is disabled. A folder is one run: its id is kept there, and a
    second call goes on in it.

    Args:
        entry: where it is logged.
        folder: of the results.
        config: of the evaluation.
        logged: tables as (columns, rows), charts, pictures as paths, also in cells of tables.
        summary: single numbers and names.
        priors: paths of the checkpoints by name; of one in a run folder that W&B knows, its run is named in the config
            of this one, priors_trained_in.
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
        "config": {**config, "priors_trained_in": runs_of(priors)},
        "id": RunFolder(folder).wandb_id(),
        "resume": "allow",
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

    def shown(value: Any) -> Any:
        return wandb.Image(str(value)) if isinstance(value, Path) else value

    def table(columns: list[Any], rows: list[list[Any]]) -> Any:
        return wandb.Table(columns=columns, data=[[shown(cell) for cell in row] for row in rows])

    def given(value: Any) -> Any:
        if isinstance(value, Chart):
            plot = wandb.plot.bar if value.kind == "bar" else wandb.plot.scatter
            return plot(table(value.columns, value.rows), *value.axes, title=value.title)
        return shown(value) if isinstance(value, Path) else table(*value)

    run.log({name: given(value) for name, value in logged.items()})
    run.summary.update(summary)
    kept = wandb.Artifact(f"evaluation-{run.id}", type="evaluation", description="report, tables and rows")
    for name in FILES:
        if (folder / name).is_file():
            kept.add_file(str(folder / name))
    run.log_artifact(kept)
    run.finish()
    say(f"W&B ({mode}): run {run.id} in project {entry.project}")


def runs_of(priors: Mapping[str, str]) -> dict[str, str]:
    """The W&B id of the run that trained each prior, by name, where its checkpoint lies in a run folder with one."""
    found = {}
    for name, path in priors.items():
        for place in list(Path(path).parents)[:3]:  # RUN/checkpoints/last.ckpt, RUN/adapter/file
            file = place / "wandb_id"
            if file.is_file():
                found[name] = file.read_text(encoding="utf-8").strip()
                break
    return found
