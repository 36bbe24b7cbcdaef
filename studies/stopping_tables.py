"""Tables of a study of stopping criteria: gaps to the oracle with paired intervals over images."""

import csv
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.files import write_atomically
from evaluation.report.statistics import Interval, in_words, mean_interval, paired_difference

Key = tuple[str, str, int]  # image, noise, network seed


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """What every finished job wrote, in the order of the file names."""
    return [json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))]


def gaps(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per (image, noise, seed, criterion): its answer, and how far it is from the best averaged iterate of the
    plain fit of the same measurement.

    Criteria that watch the plain fit get a second row, "NAME, raw answer": the raw iterate where they stopped, as
    ES-WMV is published.
    """
    plain = {_key(job): job for job in jobs if job["group"] == "plain"}
    rows = []
    for job in jobs:
        reference = plain.get(_key(job))
        if reference is None:
            continue
        for row in _with_raw(job):
            best = reference["oracle"]["averaged"]
            own = job["oracle"]["averaged"]["psnr"]
            rows.append(
                {
                    **{k: job[k] for k in ("image", "noise", "seed", "sigma_255", "noisy_psnr", "memory_mb")},
                    **row,
                    "oracle_psnr": best["psnr"],
                    "oracle_iteration": best["iteration"],
                    "gap": best["psnr"] - row["psnr"],
                    "gap_to_own_target": own - row["psnr"],
                    "gap_to_raw": reference["oracle"]["raw"]["psnr"] - row["psnr"],
                }
            )
    return rows


def _with_raw(job: dict[str, Any]) -> list[dict[str, Any]]:
    rows = list(job["rows"])
    for row in job["rows"] if job["group"] == "plain" else []:
        if not row["starred"]:
            raw = job["curves"]["raw"][row["answer_at"] - 1]
            rows.append({**row, "criterion": f"{row['criterion']}, raw answer", "psnr": raw, "ssim": float("nan")})
    return rows


def by_image(
    rows: list[dict[str, Any]], criterion: str, noises: set[str] | None = None, field: str = "gap"
) -> dict[str, float]:
    """The mean of a field over noises and seeds, for each image: images are what intervals are taken over."""
    found = defaultdict(list)
    for row in rows:
        if row["criterion"] == criterion and (noises is None or row["noise"] in noises):
            found[row["image"]].append(row[field])
    return {image: float(np.mean(values)) for image, values in sorted(found.items())}


def write_tables(folder: Path, *, title: str, against: str) -> list[Path]:
    """rows.csv, table.csv and table.md in the folder, with the differences of all criteria to that of the name
    `against`; UserError where nothing is finished yet.
    """
    rows = gaps(read_jobs(folder))
    if not rows:
        raise UserError(f"there is no finished fit in '{folder}': run the study first, without --table")
    pictures = len({r["image"] for r in rows})
    said = f"In brackets 95 % intervals over {pictures} pictures, each the mean of its fits: {in_words([pictures])}."
    lines, table = [f"# {title}", "", said, ""], []
    noises = sorted({r["noise"] for r in rows})
    groups: list[tuple[str, set[str] | None]] = [("all", None)]
    groups += [
        (kind, {n for n in noises if n.rpartition("_")[0] == kind})
        for kind in sorted({n.rpartition("_")[0] for n in noises})
    ]
    groups += [(n, {n}) for n in noises]
    for name, members in groups:
        columns = (
            f"criterion | gap dB | worst | minus {against} | to best raw | SSIM | iterations | seconds | own seconds |"
            " never stopped | fits"
        )
        lines += [f"## {name}", "", f"| {columns} |"]
        lines += ["| --- " + "| ---: " * 10 + "|"]
        reference = by_image(rows, against, members)
        found = [_line(rows, c, members, reference) for c in sorted({r["criterion"] for r in rows})]
        for line in sorted((f for f in found if f is not None), key=lambda f: f["gap"].mean):
            lines.append(_markdown(line))
            for what in ("gap", "difference"):
                interval = line[what]
                table.append([name, line["criterion"], what, interval.mean, interval.low, interval.high, interval.n])
            table += [
                [name, line["criterion"], k, line[k], "", "", line["fits"]]
                for k in ("worst", "ssim", "iterations", "seconds", "memory_mb")
            ]
        lines.append("")
    return [
        _write_csv(folder / "rows.csv", list(rows[0]), [list(r.values()) for r in rows]),
        _write_csv(folder / "table.csv", ["noise", "criterion", "what", "mean", "ci_low", "ci_high", "n"], table),
        _write(folder / "table.md", "\n".join(lines)),
    ]


def _line(
    rows: list[dict[str, Any]], criterion: str, members: set[str] | None, reference: dict[str, float]
) -> dict[str, Any] | None:
    mine = [r for r in rows if r["criterion"] == criterion and (members is None or r["noise"] in members)]
    if not mine:
        return None
    means = by_image(rows, criterion, members)
    both = [i for i in means if i in reference]
    return {
        "criterion": criterion + (" *" if mine[0]["starred"] else ""),
        "gap": mean_interval(list(means.values()), seed=0),
        "difference": paired_difference([means[i] for i in both], [reference[i] for i in both], seed=0),
        "worst": max(r["gap"] for r in mine),
        "to_raw": float(np.mean([r["gap_to_raw"] for r in mine])),
        "ssim": float(np.mean([r["ssim"] for r in mine])),  # NaN for raw answers, whose pictures are not kept
        "iterations": float(np.mean([r["iterations"] for r in mine])),
        "seconds": float(np.mean([r["seconds"] for r in mine])),
        "own_seconds": float(np.mean([r["own_seconds"] for r in mine])),
        "memory_mb": max(r["memory_mb"] for r in mine),
        "never": sum(not r["stopped"] for r in mine),
        "fits": len(mine),
    }


def _markdown(line: dict[str, Any]) -> str:
    def shown(i: Interval) -> str:
        return f"{i.mean:+.2f} [{i.low:+.2f}, {i.high:+.2f}]" if i.n > 1 else f"{i.mean:+.2f}"

    return (
        f"| {line['criterion']} | {shown(line['gap'])} | {line['worst']:+.2f} | {shown(line['difference'])} |"
        f" {line['to_raw']:+.2f} | {line['ssim']:.3f} | {line['iterations']:.0f} | {line['seconds']:.1f} |"
        f" {line['own_seconds']:.1f} | {line['never']} | {line['fits']} |"
    )


def _key(job: dict[str, Any]) -> Key:
    return job["image"], job["noise"], job["seed"]


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return _write(path, text.getvalue())


def _write(path: Path, text: str) -> Path:
    write_atomically(path, text.encode())
    return path
