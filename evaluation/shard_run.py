"""An evaluation as a job array: one shard of it, and the joining of all. The counterpart of evaluation/run.py."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from common.files import remove_parts, require_writable_folder
from common.plain_warnings import plain_warnings
from evaluation.cells import Cell, images_per_batch, make_cells, other_sizes, refuse
from evaluation.config import Config
from evaluation.engine import Engine, Share
from evaluation.identity import FILE, read_identities, same_images
from evaluation.joining import done_elsewhere, join
from evaluation.kept_config import keep_config, same_fingerprints
from evaluation.metric_prints import same_metrics
from evaluation.not_finite import note_not_finite, read_not_finite, without_rows
from evaluation.peak_memory import bring_memory
from evaluation.plan import Plan, make_plan
from evaluation.progress import Display, say
from evaluation.report.tables import Results, console, terminal_table
from evaluation.rows import RowFile, RowKey, gather, only_one
from evaluation.run import Options, in_order, remove_own_parts, write_results
from evaluation.shard import FOLDER as SHARDS
from evaluation.shard import Shard, folders_of, shard_folder
from evaluation.workers import device_of


def evaluate_shard(config: Config, options: Options, shard: Shard) -> Results | None:
    """Restore what is missing of one share, in a folder of its own below --output; whoever finds that nothing is
    missing anywhere joins the shards. The tables where this was the one, None otherwise. Raises UserError for what a
    user can mend.
    """
    place = int(os.environ.get("SLURM_LOCALID", os.environ.get("LOCAL_RANK", "0")))
    plan = make_plan(config, precision=options.precision, device=device_of(place, options.resolved_accelerator()))
    other_sizes(plan)
    folder = require_writable_folder(options.output, "--output")
    own = require_writable_folder(shard_folder(folder, shard), "--output")
    columns = plan.metrics.row_columns
    with only_one(own), plain_warnings():
        remove_parts(own)
        mine = gather(own, columns)
        same_fingerprints(plan, mine, own)
        same_images(plan, own, mine)
        same_metrics(plan.metrics, own, rows=bool(mine), anew=False)
        keep_config(config, own)
        rows = done_elsewhere(folder, columns)
        same_fingerprints(plan, rows, folder)
        places = [folder, *folders_of(folder)]
        done = frozenset(row.key for row in rows) | without_rows(plan, places)
        cells = refuse(make_cells(plan, done), skip=config.skip_unsupported)
        left = [replace(cell, images=len(images)) for cell in cells if (images := _left(plan, cell, shard, done))]
        if left:
            with Display(left) as display, RowFile(own / "rows.csv", columns) as file:
                share = Share(shard.rank, shard.world, by_batch=True)
                Engine(plan, own, file, share=share, on_progress=display.advance).run(left, done)
            say(f"shard {shard.rank}/{shard.world}: {display.summary()}")
        else:
            say(f"shard {shard.rank}/{shard.world}: nothing to restore{_why(plan, cells, shard)}")
    there = frozenset(row.key for row in done_elsewhere(folder, columns))
    if _missing(plan, cells, there | without_rows(plan, [folder, *folders_of(folder)])):
        return None
    try:
        return _merged(plan, config, options, folders_of(folder), cells)
    except UserError as error:
        if "another evaluation is writing" not in str(error):
            raise
        return None  # another shard saw it first


def evaluate_merged(config: Config, options: Options, parts: Sequence[Path] = ()) -> Results:
    """Join `parts`, by default the shards below --output, into --output, and write every table, sheet and the report.

    Raises:
        UserError: a folder of other settings, images or metrics; samples that nobody restored.
    """
    plan = make_plan(config, precision=options.precision, device=device_of(0, options.resolved_accelerator()))
    folder = require_writable_folder(options.output, "--output")
    parts = _given(parts) or folders_of(folder)
    if not parts:
        raise UserError(f"--merge: there are no shards in '{folder}': run them with --shard I/N, or name folders")
    return _merged(plan, config, options, parts, refuse(make_cells(plan), skip=config.skip_unsupported))


def _given(parts: Sequence[Path]) -> list[Path]:
    """The folders of --merge, for one that holds shards alone these; UserError for what is no folder of results."""
    found = []
    for part in parts:
        inside = [] if (part / "rows.csv").is_file() else folders_of(part)
        if not inside and not any((part / name).is_file() for name in ("rows.csv", "config.yaml")):
            raise UserError(
                f"--merge '{part}' is no folder of an evaluation or a shard: give those that --shard wrote, below"
                f" {SHARDS}/ of its --output"
            )
        found += inside or [part]
    return found


def _merged(plan: Plan, config: Config, options: Options, parts: Sequence[Path], cells: list[Cell]) -> Results:
    folder, columns = options.output, plan.metrics.row_columns
    with only_one(folder), plain_warnings():
        remove_own_parts(folder)
        for part in parts:
            rows = gather(part, columns) if (part / "rows.csv").is_file() else []
            same_fingerprints(plan, rows, part)
            if rows:
                same_images(plan, part, rows)
        joined = join(folder, [part for part in parts if (part / "rows.csv").is_file()], columns)
        places = [place for part in parts for place in (part, *folders_of(part))]
        bring_memory(folder, places)
        known = read_not_finite([folder])
        note_not_finite(folder, [entry for entry in read_not_finite(places) if entry not in known])
        same_fingerprints(plan, joined, folder)
        same_metrics(plan.metrics, folder, rows=bool(joined), anew=False)
        missing = _missing(plan, cells, frozenset(row.key for row in joined) | without_rows(plan, [folder]))
        if missing:
            task, method, image, _ = missing[0]
            raise UserError(
                f"--merge: {len(missing)} samples are missing, first {task} x {method} of image '{image}': run the"
                " shards that have not ended, then this command again"
            )
        entered = read_identities(folder / FILE)  # joined rows of other images were looked at in their parts
        same_images(plan, folder, [row for row in joined if row.image in entered])
        keep_config(config, folder)
        results = write_results(plan, folder, in_order(plan, folder, joined), cells, options)
    table = terminal_table(results)
    console(table).print(table)
    say(f"report: {folder / 'report.html'}")
    return results


def _missing(plan: Plan, cells: Sequence[Cell], done: frozenset[RowKey]) -> list[RowKey]:
    return [
        key
        for cell in cells
        for row in plan.rows(cell.task, cell.method)
        for k in range(cell.num_samples)
        if (key := (cell.task, cell.method, plan.names[row], k)) not in done
    ]


def _left(plan: Plan, cell: Cell, shard: Shard, done: frozenset[RowKey]) -> list[int]:
    """The rows of this share that lack a sample."""
    share = Share(shard.rank, shard.world, by_batch=True)
    return [
        row
        for part in share.parts(plan, cell)
        for row in part
        if any((cell.task, cell.method, plan.names[row], k) not in done for k in range(cell.num_samples))
    ]


def _why(plan: Plan, cells: Sequence[Cell], shard: Shard) -> str:
    """Why a share is empty where batches are fewer than shards."""
    batches = max(-(-cell.total // images_per_batch(plan, cell.num_samples)) for cell in cells)
    if batches > shard.rank:
        return ", all of it is there"
    if batches == 1:
        return ": there is one batch, so one shard has work; a smaller batch_size makes more"
    return f": there are {batches} batches, so at most {batches} shards have work; a smaller batch_size makes more"
