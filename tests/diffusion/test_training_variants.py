"""docs/theory/training_variants.md: its table, and the names it mentions."""

import re
from pathlib import Path

from diffusion import schedules
from diffusion.weighting.base import Weighting
from inference.catalogue import catalogue

PAGE = (Path(__file__).parents[2] / "docs/theory/training_variants.md").read_text()


def test_the_table_of_levels():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
    head = next(i for i, row in enumerate(rows) if row[0] == "t")
    kinds = [getattr(schedules, name)() for name in rows[head][1:]]
    body = [row for row in rows[head + 2 :] if re.fullmatch(r"\d+", row[0])]
    assert len(body) == 5
    for time, *cells in body:
        assert [f"{float(f'{float(k.sigmas[int(time)]):.4g}'):g}" for k in kinds] == [f"{float(c):g}" for c in cells], (
            time
        )


def test_every_weighting_is_named():
    for name, cls in catalogue("diffusion/weighting", Weighting).items():
        assert f"`{name}.{cls.__name__}`" in PAGE, name
