"""docs/methods.md has a row for every method, and says what it needs."""

import re
from pathlib import Path

from restoration_worlds import correlated_pair

from inference.catalogue import catalogue
from restoration.base import Method
from restoration.score_ald import ScoreALD

PAGE = (Path(__file__).parents[2] / "docs/methods.md").read_text()


def rows() -> dict[str, list[str]]:
    """The cells of a row by each of the names in its first cell."""
    found = {}
    for line in PAGE.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", cells[0]) if line.startswith("| `") else []:
            found[name] = cells
    return found


def test_every_method_has_a_row():
    assert set(rows()) == set(catalogue("restoration", Method))


def test_rows_say_what_is_needed():
    words = {"svd": "SVD", "mask": "mask", "white_noise": "white noise", "linear": "linear A", "proximal": "linear A"}
    for name, cls in catalogue("restoration", Method).items():
        said = rows()[name][2]
        for need in cls.needs & set(words):
            assert words[need] in said or "none" in said, (name, need, said)


def test_calls_are_those_of_the_defaults():
    found = catalogue("restoration", Method)
    prior = correlated_pair()
    for name in ("repaint", "ddrm", "ddnm", "pigdm", "diffpir", "daps", "red_diff", "pnp_flow", "drp_denoiser"):
        assert rows()[name][3].startswith(str(found[name](prior=prior).calls().nfe)), name  # type: ignore[call-arg]
    assert rows()["score_ald"][3] == str(ScoreALD(prior=prior).calls().nfe)
