"""All pictures of a folder, one after the other, by tools that are read once: what is finished stays, what fails is
named, and a table says what came of each.
"""

import csv
import hashlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import EXIT_INTERRUPTED, UserError, disk_message
from common.files import held_folder, remove_parts, require_writable_folder, sha256_of, write_atomically
from common.picture_formats import extensions
from datamodules.pictures import list_pictures
from inference.degradation_options import paths_in
from inference.request import Outcome, Request
from inference.restore_one import Tools, restore_picture, tools_for

RECORD, SUMMARY = "restored.json", "summary.csv"
COLUMNS = (
    *("picture", "status", "restored", "width", "height", "channels", "sigma_255", "sigma_estimated", "seconds", "nfe"),
    *("psnr_given", "ssim_given", "psnr", "ssim", "reason"),
)
Row = dict[str, Any]
#: (name of the degradation, its options) for a mask or none.
Degraded = Callable[[Path | None], tuple[str, dict[str, Any]]]


def restore_folder(request: Request, degraded: Degraded, *, mask: Path | None = None) -> list[str]:
    """Restore each picture in and below a folder into a folder of its own name in the output; the lines to print.

    A picture whose file, options and prior are those of its last restoration is not restored again. Ctrl-C and stop
    signals end the picture at hand with its newest estimate, which counts as not restored. `mask` and `truth` may be
    folders: each picture has the one of its own name, whatever its ending.

    Raises:
        UserError: nothing to restore, an output inside of the folder, and at the end where a picture failed.
    """
    folder, output = request.picture, request.output
    listing = list_pictures(folder)
    if not listing.pictures:
        raise UserError(f"there is no picture in the folder '{folder}': {listing.remark(folder) or 'it is empty'}")
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--output {output} lies in the folder that is restored, '{folder}': give another folder")
    tools = tools_for(request)
    require_writable_folder(output, "--output")
    busy = f"--output '{output}' is being written by another restoration: wait until it has ended, or give another"
    rows: list[Row] = []
    with held_folder(output, busy):
        remove_parts(output, below=False)  # the table's; each picture sees to its own folder
        names = _names(listing.pictures)
        for number, path in enumerate(listing.pictures):
            own = replace(request, picture=folder / path, output=output / names[path])
            row, stopped = _restored(own, tools, degraded, mask, path)
            rows.append({"picture": path.as_posix(), **row})
            write_atomically(output / SUMMARY, _table(rows))
            print(f"[{number + 1}/{len(listing.pictures)}] {_said(rows[-1])}", file=sys.stderr, flush=True)
            if stopped:
                raise KeyboardInterrupt if stopped == EXIT_INTERRUPTED else SystemExit(stopped)
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        named = ", ".join(row["picture"] for row in failed[:10]) + (" ..." if len(failed) > 10 else "")
        raise UserError(
            f"{len(failed)} of {len(rows)} pictures were not restored: {named}; '{output / SUMMARY}' says why"
        )
    remark = listing.remark(folder)
    return [*([remark] if remark else []), *_closing(rows), str(output / SUMMARY)]


def _restored(request: Request, tools: Tools, degraded: Degraded, mask: Path | None, path: Path) -> tuple[Row, int]:
    """The row of one picture, a failure is one, with its reason; and the exit code of what ended it early, else 0."""
    try:
        truth = _of_the_same_name(request.truth, path, "--truth")
        name, options = degraded(_of_the_same_name(mask, path, "--mask"))
        request = replace(request, degradation=name, degradation_options=options, truth=truth)
        record, print_now = request.output / RECORD, _fingerprint(request, tools)
        before = _read(record)
        if before.get("fingerprint") == print_now and all((request.output / n).is_file() for n in before["files"]):
            return {**before["row"], "status": "as before"}, 0
        record.unlink(missing_ok=True)
        outcome = restore_picture(request, tools)
        row = _row(outcome)
        if not outcome.interrupted:
            content = {"fingerprint": print_now, "files": [p.name for p in outcome.paths], "row": row}
            write_atomically(record, json.dumps(content, indent=1))
        return row, outcome.interrupted
    except UserError as error:
        return {"status": "failed", "reason": str(error)}, 0
    except OSError as error:
        return {"status": "failed", "reason": disk_message(error) or str(error)}, 0


def _row(outcome: Outcome) -> Row:
    compared = outcome.compared
    best = compared.get("restored", compared.get("restored_0", (None, None)))
    given = compared.get("given", (None, None))
    return {
        "status": "interrupted" if outcome.interrupted else "restored",
        "restored": str(outcome.paths[0]),
        "width": outcome.size[0],
        "height": outcome.size[1],
        "channels": outcome.channels,
        "sigma_255": round(outcome.sigma_255, 2),
        "sigma_estimated": outcome.estimated,
        "seconds": round(outcome.seconds, 2),
        "nfe": outcome.nfe,
        "psnr_given": given[0],
        "ssim_given": given[1],
        "psnr": best[0],
        "ssim": best[1],
    }


def _fingerprint(request: Request, tools: Tools) -> str:
    """Of the files that are read, the options, and the prior: what a restoration depends on."""
    files = [request.picture, request.truth, *map(Path, paths_in(request.degradation_options))]
    asked = {
        "files": [None if path is None else sha256_of(path) for path in files],
        "prior": tools.fingerprint,
        **{
            name: getattr(request, name)
            for name in (
                *("method", "method_options", "degradation", "degradation_options", "sigma_255", "resize", "any_size"),
                *("num_samples", "seed"),
            )
        },
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _read(record: Path) -> dict[str, Any]:
    """What an earlier restoration left, nothing where it left nothing that can be read."""
    try:
        content = json.loads(record.read_text())
        return content if {"fingerprint", "files", "row"} <= set(content) else {}
    except (OSError, ValueError, TypeError):
        return {}


def _names(pictures: list[Path]) -> dict[Path, Path]:
    """The folder of each picture: its name without the ending, and with it where two pictures differ in that alone."""
    count = Counter(str(path.with_suffix("")).lower() for path in pictures)
    return {p: p if count[str(p.with_suffix("")).lower()] > 1 else p.with_suffix("") for p in pictures}


def _of_the_same_name(given: Path | None, path: Path, option: str) -> Path | None:
    """The file itself, or in a folder the picture of the name `path`, with any ending."""
    if given is None or not given.is_dir():
        return given
    if (given / path).is_file():
        return given / path
    for ending in sorted(extensions()):
        if (given / path.with_suffix(ending)).is_file():
            return given / path.with_suffix(ending)
    raise UserError(f"{option} '{given}' has no picture named '{path.with_suffix('')}'")


def _table(rows: list[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: f"{v:.4f}" if isinstance(v, float) and k[:4] in ("psnr", "ssim") else v for k, v in row.items()}
        )
    return out.getvalue()


def _said(row: Row) -> str:
    """One line of a picture for a person."""
    if row["status"] == "failed":
        return f"{row['picture']}: failed, {row['reason']}"
    noise = f"noise {row['sigma_255']:.1f} of 255{' (estimated)' if row['sigma_estimated'] else ''}"
    truth = f", {row['psnr']:.2f} dB" if row.get("psnr") is not None else ""
    return f"{row['picture']}: {row['status']}, {row['width']}x{row['height']}, {noise}, {row['seconds']:.1f} s{truth}"


def _closing(rows: list[Row]) -> list[str]:
    """How many, how long, and the mean PSNR where there was a truth."""
    count = Counter(row["status"] for row in rows)
    lines = [f"{len(rows)} pictures: {', '.join(f'{n} {status}' for status, n in count.items())}"]
    lines[0] += f", {sum(row['seconds'] for row in rows if row['status'] == 'restored'):.1f} s"
    known = [row["psnr"] for row in rows if row.get("psnr") is not None]
    return lines + ([f"mean PSNR {sum(known) / len(known):.2f} dB of {len(known)} pictures"] if known else [])
