"""Which pictures are fitted in one pass, and by which process."""

from collections.abc import Sequence
from math import ceil, prod

from common.shapes import image_shape
from degradations.base import Shape


def groups_of(shapes: Sequence[Shape], together: int, processes: int) -> list[list[int]]:
    """Rows of equal shape in groups of at most `together`, smaller where some of `processes` would have
    nothing to do.
    """
    rows: dict[Shape, list[int]] = {}
    for row, shape in enumerate(shapes):
        rows.setdefault(image_shape(shape), []).append(row)
    size = max(1, min(together, ceil(len(shapes) / processes)))
    while True:
        groups = [same[k : k + size] for same in rows.values() for k in range(0, len(same), size)]
        if len(groups) >= processes or size == 1:
            return groups
        size = ceil(size / 2)


def dealt(groups: Sequence[Sequence[int]], shapes: Sequence[Shape], processes: int) -> list[list[int]]:
    """For each process the numbers of its groups: the largest first, each to the process with the fewest
    pixels so far.
    """
    pixels = [len(rows) * prod(shapes[rows[0]][1:]) for rows in groups]
    load, hands = [0] * processes, [[] for _ in range(processes)]
    for group in sorted(range(len(groups)), key=lambda g: (-pixels[g], g)):
        process = min(range(processes), key=lambda p: (load[p], len(hands[p]), p))
        load[process] += pixels[group]
        hands[process].append(group)
    return [sorted(hand) for hand in hands]
