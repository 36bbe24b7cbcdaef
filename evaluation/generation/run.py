"""One generation evaluation from beginning to end: what evaluate.py calls for a configuration with samplers."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from common.errors import UserError
from common.files import remove_parts, require_writable_folder, write_atomically
from common.image_range import to_float
from common.pictures import grid, png_bytes
from evaluation.generation.chunks import SHEET, Chunk, Drawn, chunks_of, read_chunk
from evaluation.generation.config import GenerationConfig
from evaluation.generation.measures import too_few
from evaluation.generation.plan import Cell, Plan, make_plan
from evaluation.generation.pool import draw_chunks
from evaluation.generation.reference import reference_features
from evaluation.generation.report import write_report
from evaluation.generation.results import Line, lines_of, terminal_table, write_table
from evaluation.generation.wandb_log import log_to_wandb
from evaluation.progress import INTERVAL, duration, say
from evaluation.report.tables import console
from evaluation.rows import GONE, only_one
from evaluation.run import Options
from evaluation.workers import device_of
from metrics.features import Features


def dry_run(config: GenerationConfig, options: Options) -> None:
    """Print the cells: steps, network calls, images, what is there already, estimated time; UserError for what cannot
    work.
    """
    plan = make_plan(config, precision=options.precision, device=device_of(0, options.resolved_accelerator()))
    table = Table(title=f"{len(plan.cells)} cells, nothing was run", title_justify="left")
    for name in ("sampler", "steps", "first level", "NFE", "images", "done", "estimated time"):
        table.add_column(name, justify="left" if name == "sampler" else "right")
    total = 0.0
    for number, cell in enumerate(plan.cells):
        done = sum(
            c.count for c in chunks_of(plan) if c.cell == number and read_chunk(plan, options.output, c) is not None
        )
        per_call, factor = _seconds_per_call(plan, cell)
        seconds = per_call * cell.calls * (config.num_images - done) / options.devices
        total += seconds
        first = f"{float(cell.sigmas[0]):.4g}"
        table.add_row(
            cell.sampler_name,
            str(cell.steps),
            first,
            f"{cell.calls * factor:g}",
            str(config.num_images),
            str(done),
            duration(seconds),
        )
    out = console()
    out.print(table)
    out.print(
        f"about {duration(total)} of drawing on {options.devices} x {plan.device.type}; features: {plan.features.name}"
    )
    _say_notes(plan)


def evaluate(config: GenerationConfig, options: Options) -> list[Line]:
    """Draw what is missing in the folder, then write table, sheets and report. Raises UserError for what a user can
    mend.
    """
    accelerator = options.resolved_accelerator()
    plan = make_plan(config, precision=options.precision, device=device_of(0, accelerator))
    _check_first_steps(plan, [c for c in chunks_of(plan) if read_chunk(plan, options.output, c) is None])
    folder = require_writable_folder(options.output, "--output")
    with only_one(folder):
        remove_parts(folder)
        missing = [c for c in chunks_of(plan) if read_chunk(plan, folder, c) is None]
        write_atomically(folder / "config.yaml", yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True))
        notes = _say_notes(plan)
        _draw(plan, folder, missing, options, accelerator)
        drawn: dict[int, list[Drawn]] = {k: [] for k in range(len(plan.cells))}
        for chunk in chunks_of(plan):
            found = read_chunk(plan, folder, chunk)
            if found is None:
                raise UserError(f"'{folder}' lacks images that were drawn into it: {GONE}")
            drawn[chunk.cell].append(found)
        lines = lines_of(plan, drawn, *_real(plan))
        write_table(plan, lines, folder / "table.csv")
        sheets = _write_sheets(plan, folder, drawn)
        write_report(plan, lines, sheets, folder / "report.html", precision=options.precision, notes=notes)
    console().print(terminal_table(plan, lines))
    log_to_wandb(plan, lines, sheets, folder)
    say(f"report: {folder / 'report.html'}")
    return lines


def _check_first_steps(plan: Plan, missing: Sequence[Chunk]) -> None:
    """UserError for levels that a sampler cannot walk, where images are still to be drawn from them."""
    for cell in (plan.cells[k] for k in sorted({c.cell for c in missing})):
        try:
            cell.sampler.check_first_step(cell.sigmas.tolist())
        except ValueError as error:
            raise UserError(f"samplers.{cell.sampler_name}, {cell.steps} steps: {error}") from error


def _draw(plan: Plan, folder: Path, missing: Sequence[Chunk], options: Options, accelerator: str) -> None:
    every = chunks_of(plan)
    if not missing:
        say(f"everything is drawn already in '{folder}': table and report are made again")
        return
    if len(missing) < len(every):
        say(
            f"going on in '{folder}': {sum(c.count for c in every) - sum(c.count for c in missing)} images are there"
            " already"
        )
    work = {id(c): c.count * plan.cells[c.cell].calls for c in missing}
    began = last = time.monotonic()
    finished = 0
    terminal = sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=not terminal) as bar:
        task = bar.add_task("drawing", total=sum(work.values()))

        def advance(chunk: Chunk) -> None:
            nonlocal finished, last
            finished += work[id(chunk)]
            bar.update(task, completed=finished, description=plan.cells[chunk.cell].name)
            if not terminal and time.monotonic() - last >= INTERVAL:
                last = time.monotonic()
                left = (last - began) * (sum(work.values()) / finished - 1)
                say(
                    f"{plan.cells[chunk.cell].name}: {100 * finished / sum(work.values()):.0f} %, {duration(left)} left"
                )

        draw_chunks(
            plan,
            folder,
            missing,
            devices=options.devices,
            accelerator=accelerator,
            precision=options.precision,
            on_chunk=advance,
        )
    say(f"{sum(c.count for c in missing)} images in {duration(time.monotonic() - began)}")


def _real(plan: Plan) -> tuple[Features, Features | None]:
    """Features of the reference, and of as many real images as are drawn."""

    def progress(done: int, total: int) -> None:
        if done == total or not done % 5000:
            say(f"features of {done} of {total} real images")

    assert plan.reference is not None  # the plan was made with_images
    reference = reference_features(
        plan.reference, plan.features, limit=plan.config.reference_images, on_progress=progress
    )
    if plan.real is None or len(plan.real) < 4:
        return reference, None
    return reference, reference_features(plan.real, plan.features, limit=plan.config.num_images, on_progress=progress)


def _write_sheets(plan: Plan, folder: Path, drawn: dict[int, list[Drawn]]) -> dict[str, Path]:
    sheets = {}
    for number, cell in enumerate(plan.cells):
        pixels = torch.cat([p.pixels for p in drawn[number]])[:SHEET]
        path = folder / "images" / f"{cell.name}.png"
        write_atomically(path, png_bytes(grid(to_float(pixels), columns=10, at_least=40)))
        sheets[cell.name] = path
    return sheets


def _say_notes(plan: Plan) -> list[str]:
    notes = [note for note in (too_few(plan.config.num_images, plan.features.dimension),) if note]
    if plan.reference_images < plan.config.num_images and (
        few := too_few(plan.reference_images, plan.features.dimension)
    ):
        notes.append(f"of the reference: {few}")
    if plan.real is not None and len(plan.real) < plan.config.num_images:
        notes.append(
            f"the row of real images is of {len(plan.real)} images only, fewer than the {plan.config.num_images} drawn:"
            " its FID has more bias"
        )
    for note in notes:
        say(f"warning: {note}")
    return notes


def _seconds_per_call(plan: Plan, cell: Cell) -> tuple[float, float]:
    """Seconds of one step's call for one image, measured on a small batch; network evaluations in it (2 with
    guidance).
    """
    size = min(plan.config.batch_size, 16)
    x = float(cell.sigmas[0]) * torch.zeros(size, *plan.shape, device=plan.device)
    sigma = torch.full((size,), float(cell.sigmas[0]), device=plan.device)
    condition = cell.conditioning.of_drawing(list(range(size)), plan.device)
    seen = [0]
    handle = cell.network.register_forward_pre_hook(lambda _, inputs: seen.__setitem__(0, seen[0] + len(inputs[0])))
    with torch.no_grad():
        cell.denoiser.predict(x, sigma, condition)
        handle.remove()
        began = time.perf_counter()
        cell.denoiser.predict(x, sigma, condition)
    return (time.perf_counter() - began) / size, seen[0] / size
