"""A large evaluation with a cheap method: time by number of images, peak memory, size and time of its report:
``python -m benchmarks.large_evaluation [--images N]``.

Runs the whole of evaluate on random 28x28 images: one task, the pseudo-inverse and the measurement itself, with N / 4
and N images. Each is a process of its own, so that peaks do not mix. What a start takes is measured with 4 images and
taken off. Prints a table and ends with code 1 where a goal is missed: a restored image in 3 ms or less of CPU, a report
under 5 MB and 10 CPU seconds.
"""

import common.torchvision_remedy  # noqa: F401, I001

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.command_line import at_least_one

ROOT = Path(__file__).resolve().parent.parent
LARGEST_REPORT, LONGEST_REPORT = 5e6, 10.0


def one(images: int) -> dict[str, float]:
    """An evaluation in this process: CPU seconds, MB, and what its report takes."""
    from evaluation import run
    from evaluation.config import parse_config

    pseudo_inverse = "restoration.pseudo_inverse.PseudoInverse"
    blur = {"class_path": "degradations.circular_blur.CircularGaussianBlur", "init_args": {"std": 1.0}}
    raw = {
        "data": {"class_path": "benchmarks.random_images.RandomImages", "init_args": {"count": images}},
        "tasks": {"deblurring": {"degradation": blur, "noise": {"sigma_255": 6}}},
        "methods": {"degraded": "restoration.degraded.Degraded", "pseudo_inverse": pseudo_inverse},
        "wandb": {"mode": "disabled"},
    }
    report, write = [0.0], run.write_report

    def timed(*args, **options) -> None:
        begin = time.process_time()
        write(*args, **options)
        report[0] = time.process_time() - begin

    run.write_report = timed
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        run.evaluate(parse_config(raw, "the benchmark"), run.Options(output=Path(folder), accelerator="cpu"))
        found = {"seconds": time.process_time() - begin, "report": report[0]}
        found["bytes"] = (Path(folder) / "report.html").stat().st_size
    found["mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_evaluation", description=__doc__)
    parser.add_argument("--images", type=at_least_one, default=2000, help="of the larger one (default: %(default)s)")
    parser.add_argument("--one", type=at_least_one, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print("RESULT " + json.dumps(one(args.one)))
        return
    found = {}
    for images in (4, args.images // 4, args.images):
        words = [sys.executable, "-m", "benchmarks.large_evaluation", "--one", str(images)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        found[images] = json.loads(done.stdout.split("RESULT ")[1])
    table = Table(title="two methods, whole evaluation, CPU seconds", title_justify="left")
    for head in ("images", "seconds", "ms / restored image", "peak MB", "report, seconds", "report, MB"):
        table.add_column(head, justify="right")
    start, missed = found[4]["seconds"], False
    for images, f in found.items():
        each = (f["seconds"] - start) / (2 * images) * 1000
        cells = [
            f"{f['seconds']:.1f}",
            f"{each:.2f}",
            f"{f['mb']:.0f}",
            f"{f['report']:.2f}",
            f"{f['bytes'] / 1e6:.2f}",
        ]
        table.add_row(str(images), *cells)
        missed |= each > 3 or f["report"] > LONGEST_REPORT or f["bytes"] > LARGEST_REPORT
    Console(width=120).print(table)
    sys.exit(int(missed))


if __name__ == "__main__":
    main()
