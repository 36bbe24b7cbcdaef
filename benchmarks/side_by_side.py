"""What benchmarks share that compare contenders with one another: taking turns, the ratio of paired rounds, the options
and the table.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table


def seconds_of(step: Callable[[], None], device: torch.device) -> float:
    """Of one call; of the process where it has one thread on a CPU, else of the wall."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


def compare(steps: dict[str, Callable[[], None]], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round, taking turns."""
    for step in steps.values():
        seconds_of(step, device)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(seconds_of(step, device))
    return found


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """The ratio of each round: what slows a whole round down slows both."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def spread(ratios: Sequence[float]) -> str:
    """The median, with the smallest and the largest."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"


def machine() -> str:
    """The processor that all of it ran on, for the line above the table."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line, with the two options that all of them have."""
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    return parser.parse_args()


def sizes_of(args: argparse.Namespace) -> tuple[int, int, int]:
    """Width of the network, batch and rounds: those that were given, or what this machine bears."""
    on_gpu = torch.cuda.is_available()
    width = args.width or (16 if args.quick else 128 if on_gpu else 64)
    return width, 2 if args.quick else args.batch, args.rounds or (1 if args.quick else 20 if on_gpu else 5)


def show(
    head: list[str], rows: list[list[str]], *, markdown: bool, title: str | None, columns: int, no_wrap: bool = True
) -> None:
    """The table on the screen, or as Markdown, which has no title.

    Args:
        columns: characters of a line on the screen.
        no_wrap: cells of one line each, cut where they are longer.
    """
    if markdown:
        first, *rest = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
        print("\n".join(["", first, "|" + " --- |" * len(head), *rest]))
        return
    table = Table(title=title, title_justify="left")
    for name in head:
        table.add_column(name, no_wrap=no_wrap)
    for row in rows:
        table.add_row(*row)
    Console(width=columns).print(table)
