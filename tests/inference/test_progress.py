"""A person who waits: the newest estimate is kept, Ctrl-C ends early with it, memory that runs out is one sentence."""

import pytest
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from inference import progress as watched
from inference.iterates import Iterates
from restoration.base import Cost, Method, Restoration


class Slow(Method):
    """Three steps; raises what it is told after one of them."""

    def __init__(self, error: BaseException | None, after: int) -> None:
        self.error, self.after = error, after

    def calls(self) -> Cost:
        return Cost()

    def restore(self, measurement, *, num_samples=1, random, on_step=None):
        for step in range(3):
            if step == self.after and self.error is not None:
                raise self.error
            on_step(step, 3, torch.full((num_samples, 1, 4, 4), float(step)))
        return Restoration(samples=torch.full((1, num_samples, 1, 4, 4), 9.0))


def run(
    error: BaseException | None = None, after: int = 0, num_samples: int = 2
) -> tuple[Restoration, int, list[float], Iterates]:
    y = torch.zeros(1, 1, 4, 4)
    measurement = Measurement(y=y, operator=IdentityOperator((1, 4, 4)), noise=GaussianNoise(sigma=0.1), index=(0,))
    saved, iterates = [], Iterates()
    found, code = watched.restore_watched(
        Slow(error, after),
        measurement,
        num_samples=num_samples,
        random=RandomStreams(0),
        name="slow",
        iterates=iterates,
        save=lambda estimate: saved.append(float(estimate[0, 0, 0, 0])),
    )
    return found, code, saved, iterates


def test_to_the_end(monkeypatch):
    found, code, saved, iterates = run()
    assert float(found.samples.mean()) == 9 and code == 0 and not saved and iterates.count == 3
    monkeypatch.setattr(watched, "EVERY", -1.0)
    assert run()[2] == [0, 1, 2]


@pytest.mark.parametrize(("stop", "expected"), [(KeyboardInterrupt(), 130), (SystemExit(75), 75)])
def test_a_stop_ends_early(stop, expected, monkeypatch):
    monkeypatch.setattr(watched, "ignore_stop_signals", lambda: None)  # pytest goes on
    found, code, _, _ = run(stop, after=2)
    assert code == expected
    assert (
        found.samples.shape == (1, 2, 1, 4, 4)
        and float(found.samples.mean()) == 1
        and "interrupted after iteration 2" in found.notes[0]
    )
    with pytest.raises(type(stop)):
        run(stop, after=0)


def test_memory():
    with pytest.raises(UserError, match="not enough memory"):
        run(MemoryError(), after=1)


def test_a_line_a_minute_where_there_is_no_terminal(monkeypatch, capsys):
    run()
    assert capsys.readouterr().err == ""
    clock = iter(range(0, 10_000, 40))  # every look at the clock is 40 s after the one before
    monkeypatch.setattr(watched.time, "monotonic", lambda: float(next(clock)))
    run()
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("slow: ") and "of 3, at most" in line for line in lines)
