"""One evaluation from beginning to end: what evaluate.py and notebooks call."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from common.errors import UserError
from common.files import remove_parts, require_writable_folder
from common.plain_warnings import plain_warnings
from degradations.given_mask import masks_in
from evaluation.cell_tables import all_calls, cost_table, refusal_table
from evaluation.cells import Cell, make_cells, other_sizes, refuse, remarks_on_priors
from evaluation.config import Config
from evaluation.cost import estimate
from evaluation.costs import write_costs
from evaluation.distribution import few_images, update_distances
from evaluation.engine import Engine
from evaluation.identity import same_images
from evaluation.kept_config import keep_config, same_fingerprints
from evaluation.metric_prints import same_metrics
from evaluation.not_finite import sentences, without_rows
from evaluation.peak_memory import read_memory
from evaluation.plan import Plan, make_plan
from evaluation.progress import Display, duration, say
from evaluation.recompute import recompute
from evaluation.report.html import write_report
from evaluation.report.paste import write_pasted
from evaluation.report.sheets import write_sheets
from evaluation.report.tables import Results, console, summarise, terminal_table, write_table
from evaluation.report.wandb_log import log_to_wandb
from evaluation.rows import GONE, Row, RowFile, RowKey, gather, only_one, read_rows, write_rows
from evaluation.sets import update_sets
from evaluation.shard import folders_of
from evaluation.workers import device_of, run_workers


@dataclass(frozen=True)
class Options:
    """What the command line says besides the configuration. accelerator: "auto", "cpu" or "cuda"; precision: "32" or
    "bf16".
    """

    output: Path
    devices: int = 1
    accelerator: str = "auto"
    precision: str = "32"
    metrics_only: bool = False

    def resolved_accelerator(self) -> str:
        """ "cuda" or "cpu"; UserError where the one asked for, or so many devices of it, are not there."""
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if self.accelerator == "auto" else self.accelerator
        if chosen == "cuda" and not torch.cuda.is_available():
            raise UserError("--accelerator cuda: there is no CUDA device here; use --accelerator cpu")
        if chosen == "cuda" and self.devices > torch.cuda.device_count():
            raise UserError(f"--devices {self.devices}: there are {torch.cuda.device_count()} CUDA devices here")
        return chosen


def dry_run(config: Config, options: Options) -> None:
    """Print what cannot work and why, the network calls of all, then the cells: images, samples, network calls, and the
    time that a few timed steps of each lead to. UserError, before anything is timed, where a cell is refused and not to
    be left out.
    """
    plan = make_plan(config, precision=options.precision, device=device_of(0, options.resolved_accelerator()))
    done = frozenset(row.key for row in read_rows(options.output / "rows.csv"))
    cells, out = make_cells(plan, done), console()
    refused = refusal_table(cells)
    if refused is not None:  # before anything is timed, which takes seconds for each of the other cells
        out.print(refused)
    refuse(cells, skip=config.skip_unsupported)
    sizes = other_sizes(plan)
    say(f"{all_calls(cells)}; a few steps of each cell are timed now")
    cells = estimate(plan, cells)
    out.print(cost_table(cells, options.devices))
    known = [c.seconds for c in cells if c.seconds is not None]
    if known:
        out.print(
            f"about {duration(sum(known) / options.devices)} on {options.devices} x {plan.device.type}; methods that"
            " stop by themselves may take less"
        )
    _say_what_is_missing(plan)
    for warning in [*sizes, *remarks_on_priors(plan), *plan.metrics.missing.values(), *few_images(plan)]:
        say(f"warning: {warning}")


def evaluate(config: Config, options: Options) -> Results:
    """Restore what is missing in the folder, then write every table, sheet and the report. Raises UserError for what a
    user can mend.
    """
    accelerator = options.resolved_accelerator()
    plan = make_plan(config, precision=options.precision, device=device_of(0, accelerator))
    sizes = other_sizes(plan)
    folder = require_writable_folder(options.output, "--output")
    with only_one(folder), plain_warnings():
        remove_own_parts(folder)
        _say_what_is_missing(plan)
        for warning in [*plan.metrics.missing.values(), *few_images(plan)]:
            say(f"warning: {warning}")
        if options.metrics_only:
            rows = _own(recompute(plan, folder), plan)
            same_metrics(plan.metrics, folder, rows=bool(rows), anew=True)
            cells: list[Cell] = [c for c in make_cells(plan) if c.refusal is None]
        else:
            rows = gather(folder, plan.metrics.row_columns)
            same_fingerprints(plan, rows, folder)
            same_images(plan, folder, rows)
            same_metrics(plan.metrics, folder, rows=bool(rows), anew=False)
            keep_config(config, folder)
            places = [folder, *folders_of(folder)]
            done = frozenset(row.key for row in rows) | without_rows(plan, places)
            cells = refuse(make_cells(plan, done), skip=config.skip_unsupported)
            for warning in [*sizes, *remarks_on_priors(plan)]:
                say(f"warning: {warning}")
            _restore(plan, config, folder, cells, done, options, accelerator)
            rows = in_order(plan, folder, gather(folder, plan.metrics.row_columns))
            _nothing_lost(cells, rows, without_rows(plan, places), folder)
        results = write_results(plan, folder, rows, cells, options)
    table = terminal_table(results)
    console(table).print(table)
    say(f"report: {folder / 'report.html'}")
    return results


def remove_own_parts(folder: Path) -> None:
    """What killed writers have left in a folder that is held: not in shards/, where others may be writing."""
    remove_parts(folder, below=False)
    for name in ("restored", "images", "given"):
        remove_parts(folder / name)


def _restore(
    plan: Plan, config: Config, folder: Path, cells: list[Cell], done: frozenset, options: Options, accelerator: str
) -> None:
    left = [cell for cell in cells if cell.images]
    if not left:
        say(f"everything is done already in '{folder}': nothing is restored again, tables and report are rebuilt")
        return
    finished = sum((c.total - c.images) * c.num_samples for c in cells)
    if finished:
        say(f"going on in '{folder}': {finished} samples are there already")
    with Display(left) as display:
        world = min(options.devices, max(cell.total for cell in left))
        if world > 1:
            run_workers(
                config,
                folder,
                left,
                done,
                world=world,
                accelerator=accelerator,
                precision=options.precision,
                display=display,
            )
        else:
            with RowFile(folder / "rows.csv", plan.metrics.row_columns) as rows:
                Engine(plan, folder, rows, on_progress=display.advance).run(left, done)
    say(display.summary())


def write_results(plan: Plan, folder: Path, rows: list[Row], cells: list[Cell], options: Options) -> Results:
    sets = update_sets(plan, folder, rows, anew=options.metrics_only)
    results = summarise(plan, rows, sets, update_distances(plan, folder, rows))
    not_finite = sentences(plan, [folder, *folders_of(folder)])
    if not rows:
        raise UserError(not_finite[0] if not_finite else f"'{folder}' has no rows: {GONE}")
    for sentence in not_finite:
        say(f"warning: {sentence}")
    results = replace(results, missing=(*not_finite, *results.missing))
    write_table(results, folder / "table.csv")
    memory = read_memory([folder, *folders_of(folder)])
    results = replace(results, memory={key: megabytes for key, (_, megabytes, _) in memory.items()})
    write_costs(results, memory, folder)
    write_pasted(plan, results, folder)
    sheets = write_sheets(plan, folder, rows, shown={name: results.shown(name) for name in plan.methods})
    title = plan.config.title or f"Restoration of {plan.config.data['class_path'].rpartition('.')[2]}"
    ran = {(cell.task, cell.method) for cell in cells}
    out = [f"{t} x {m}" for t, m in plan.cells if (t, m) not in ran]
    notes = [f"Left out, because the method cannot do it: {', '.join(out)}."] if out else []
    note = " ".join([*notes, *(f"{text[0].upper()}{text[1:]}." for text in few_images(plan))])
    write_report(plan, results, sheets, folder / "report.html", title=title, precision=options.precision, note=note)
    log_to_wandb(plan, results, sheets, folder)
    return results


def _own(rows: list[Row], plan: Plan) -> list[Row]:
    """The rows of the configuration's cells and images: a folder may hold more, from a larger limit or from methods
    that are not asked for now.
    """
    wanted = {cell: {plan.names[row] for row in plan.rows(*cell)} for cell in plan.cells}
    return [
        r
        for r in rows
        if r.image in wanted.get((r.task, r.method), ()) and r.sample < plan.methods[r.method].num_samples
    ]


def in_order(plan: Plan, folder: Path, rows: list[Row]) -> list[Row]:
    """The plan's rows; rows.csv is put into the order of the configuration, so that it does not depend on processes and
    interruptions.
    """
    cell = {key: number for number, key in enumerate(plan.cells)}
    image = {name: number for number, name in enumerate(plan.names)}
    last = (len(cell), len(image))
    ordered = sorted(rows, key=lambda r: (cell.get((r.task, r.method), last[0]), image.get(r.image, last[1]), r.sample))
    if ordered != rows:
        write_rows(folder / "rows.csv", ordered, plan.metrics.row_columns)
    return _own(ordered, plan)


def _nothing_lost(cells: list[Cell], rows: list[Row], not_finite: Collection[RowKey], folder: Path) -> None:
    """UserError where rows that were there, or were written, are gone."""
    expected = sum(cell.total * cell.num_samples for cell in cells)
    ran = {(cell.task, cell.method) for cell in cells}
    found = len({row.key for row in rows if (row.task, row.method) in ran} | {k for k in not_finite if k[:2] in ran})
    if found < expected:
        raise UserError(f"'{folder}' has {found} of the {expected} rows that were written: {GONE}")


def _say_what_is_missing(plan: Plan) -> None:
    """The share of missing pixels of each mask that was given as a file."""
    for task in plan.tasks.values():
        for mask in masks_in(task.degradation):
            say(f"{task.name}: {100 * mask.missing:.1f} % of the pixels are missing in the mask '{mask.path}'")
