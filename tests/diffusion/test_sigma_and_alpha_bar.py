"""The tables of docs/theory/sigma_and_alpha_bar.md are what the code computes."""

from pathlib import Path

import pytest
import torch

from diffusion.schedules import Cosine, Linear

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "theory" / "sigma_and_alpha_bar.md").read_text(encoding="utf-8")


def table(header: str) -> list[list[float]]:
    """The numbers of the table that begins with `header`; trailing cells of words are left out."""
    lines = PAGE.split(header + "\n", 1)[1].splitlines()[1:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(
            [float(cell) for cell in line.strip("|").split("|")[: header.count("|") - 1] if cell.strip()[:1].isdigit()]
        )
    return rows


def test_times_to_levels():
    rows = table("| t | linear ab | linear sigma | cosine ab | cosine sigma |")
    assert len(rows) == 10 and all(len(row) == 5 for row in rows)
    for t, linear_ab, linear_sigma, cosine_ab, cosine_sigma in rows:
        for schedule, ab, sigma in ((Linear(), linear_ab, linear_sigma), (Cosine(), cosine_ab, cosine_sigma)):
            assert float(schedule.alphas_bar[int(t)]) == pytest.approx(ab, rel=6e-4)  # four digits are printed
            assert float(schedule.sigmas[int(t)]) == pytest.approx(sigma, rel=6e-4)
            assert 1 / (1 + float(schedule.sigmas[int(t)]) ** 2) == pytest.approx(ab, rel=6e-4)


def test_levels_to_times():
    rows = table("| sigma | sigma_255 | linear t | cosine t | |")
    assert len(rows) == 12 and all(len(row) == 4 for row in rows)
    for sigma, sigma_255, linear, cosine in rows:
        assert sigma_255 / 127.5 == pytest.approx(sigma, rel=6e-4)
        exact = torch.tensor(sigma_255 / 127.5, dtype=torch.float64)
        # sigma_255 is exact but for the row of SNR 5, where its four digits move the time by 0.01.
        assert float(Linear().time_of(exact)) == pytest.approx(linear, abs=0.02)
        assert float(Cosine().time_of(exact)) == pytest.approx(cosine, abs=0.02)


def test_v():
    """x0 = a^2 x - b o and eps = a o + a b x for o = a noise - b x0."""
    x0, noise, sigma = 0.3, -1.2, 0.7
    a = (1 + sigma**2) ** -0.5
    b, x = sigma * a, x0 + sigma * noise
    o = a * noise - b * x0
    assert a**2 * x - b * o == pytest.approx(x0) and a * o + a * b * x == pytest.approx(noise)
