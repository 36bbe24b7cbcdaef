"""A solver whose every iterate is known: Landweber's iteration in an orthonormal cosine basis, so that degrees of
freedom and errors have closed forms.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Degradation, Operator
from degradations.identity import Identity, IdentityOperator
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise, Noise
from restoration.stopping.base import StoppingCriterion, Verdict, Watch

SIZE = 16


@cache
def cosine_basis(n: int) -> Tensor:
    """Rows are the orthonormal DCT-II vectors, float64 [n, n]."""
    i, m = torch.arange(n, dtype=torch.float64), torch.arange(n, dtype=torch.float64)[:, None]
    basis = torch.cos(torch.pi * m * (2 * i + 1) / (2 * n)) * (2 / n) ** 0.5
    basis[0] /= 2**0.5
    return basis


@cache
def frequencies(size: int) -> Tensor:
    """k_x^2 + k_y^2 of the coefficients, [size, size]."""
    k = torch.arange(size, dtype=torch.float64)
    return k[:, None].square() + k.square()


def gains(iterations: float, size: int = SIZE) -> Tensor:
    """g_j = 1 - (1 - lambda)^j, lambda = 0.4 / (1 + |k|^2 / 4): what a gradient descent that is slow at high
    frequencies has fitted after j steps.
    """
    return 1 - _left_by_a_step(size) ** iterations


@cache
def _left_by_a_step(size: int) -> Tensor:
    return 1 - 0.4 / (1 + frequencies(size) / 4)


def smooth(y: Tensor, gain: Tensor) -> Tensor:
    """S y with S diagonal in the cosine basis; y [B, C, n, n] of any dtype, gain [n, n] or [B, 1, n, n]."""
    basis = cosine_basis(y.shape[-1])
    return (basis.T @ (gain * (basis @ y.double() @ basis.T)) @ basis).to(y)


def pictures(count: int = 3, size: int = SIZE, channels: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random pictures with the spectrum of natural ones, within [-0.9, 0.9]."""
    white = torch.stack(
        [RandomStreams(3).normal("pictures", i, 0, (channels, size, size)).double() for i in range(count)]
    )
    x = smooth(white, 1 / (1 + frequencies(size)).sqrt())
    return (0.9 * x / x.abs().amax((1, 2, 3), keepdim=True)).to(dtype)


def measured(
    x: Tensor | None = None,
    *,
    noise: Noise | None = None,
    sigma_255: float = 25,
    degradation: Degradation | None = None,
    seed: int = 0,
) -> Measurement:
    x = pictures() if x is None else x
    noise = noise or GaussianNoise(sigma_255=sigma_255)
    return measure(
        x,
        degradation=degradation or Identity(),
        noise=noise,
        index=[7 + 2 * i for i in range(len(x))],
        random=RandomStreams(seed),
    )


def same_picture(count: int, **options: object) -> Measurement:
    """One picture with `count` noises, for averages over the noise."""
    return measured(pictures(1).expand(count, -1, -1, -1), **options)


class Solver:
    """The iterates of Landweber's iteration on what a watch wants fitted, every image at its own pace: raw ones f, and
    their exponential average.
    """

    def __init__(self, measurement: Measurement, *, pace: float = 1.0) -> None:
        self.measurement = measurement
        self.paces = torch.tensor([pace * (1 + 0.05 * (i % 7)) for i in measurement.index], dtype=torch.float64)
        self.ages = torch.zeros(len(measurement.index), dtype=torch.float64)
        self.average: Tensor | None = None

    def step(self, watch: Watch) -> tuple[Tensor, Tensor]:
        """output and average [B, C, H, W] of the next iteration."""
        self.ages = self.ages + 1
        gain = gains((self.ages * self.paces).view(-1, 1, 1, 1), self.measurement.operator.input_shape[-1])
        target = watch.y if watch.weight is None else watch.y * watch.weight
        output = smooth(self.measurement.operator.pseudo_inverse(target), gain)
        fresh = (self.ages == 1).view(-1, 1, 1, 1)
        self.average = output if self.average is None else torch.where(fresh, output, 0.8 * self.average + 0.2 * output)
        return output, self.average

    def follow(self, verdict: Verdict) -> None:
        if verdict.restart is not None:
            self.ages = torch.where(verdict.restart, 0.0, self.ages)


def run(
    criterion: StoppingCriterion, measurement: Measurement, *, iterations: int = 150, seed: int = 0, pace: float = 1.0
) -> Iterator[tuple[int, Verdict, Watch]]:
    """(iteration, verdict, watch) of every iteration, on after all have stopped, to the last."""
    watch = criterion.watch(measurement, random=RandomStreams(seed), iterations=iterations)
    solver = Solver(measurement, pace=pace)
    for iteration in range(1, iterations + 1):
        verdict = watch.update(iteration, *solver.step(watch))
        solver.follow(verdict)
        yield iteration, verdict, watch


def unbiased(found: Tensor, expected: Tensor | float, errors: float = 4.0) -> None:
    """The mean of found - expected [B] is 0 within so many of its standard errors."""
    difference = found.double() - expected
    error = difference.std() / len(difference) ** 0.5
    assert abs(float(difference.mean())) < errors * float(error), (float(difference.mean()), float(error))


def noisy(
    count: int,
    *,
    sigma: float = 0.2,
    x: Tensor | None = None,
    operator: Operator | None = None,
    noise: Noise | None = None,
    seed: int = 7,
) -> Measurement:
    """One picture x [1, C, H, W] through an operator, with `count` noises of this sigma in [-1, 1] units; `noise` is
    what the measurement says of it.
    """
    x = pictures(1) if x is None else x
    operator, index = operator or IdentityOperator(tuple(x.shape[1:])), tuple(range(0, 7 * count, 7))
    clean = operator(x.expand(count, -1, -1, -1))
    y = clean + sigma * RandomStreams(seed).normal_batch("measurement", index, [0] * count, clean.shape[1:]).to(clean)
    y = y if operator.mask is None else y * operator.mask
    return Measurement(
        y=y,
        operator=operator,
        noise=noise or GaussianNoise(sigma=sigma),
        index=index,
        truth=x.expand(count, -1, -1, -1),
    )


@dataclass
class Followed:
    """What came of a fit: by iteration (from 1) the verdicts, values, iterates; per image the kept answer, its
    iteration, and when it stopped (0: never).
    """

    watch: Watch
    answer: Tensor
    kept_at: Tensor
    stopped_at: Tensor
    verdicts: list[Verdict] = field(default_factory=list)
    values: list[dict[str, Tensor]] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    averages: list[Tensor] = field(default_factory=list)


def follow(criterion: StoppingCriterion, measurement: Measurement, *, iterations: int, seed: int = 0) -> Followed:
    """Does what a criterion says: fits its target, keeps what it calls improved, begins again where it says so; until
    all have stopped.
    """
    watch = criterion.watch(measurement, random=RandomStreams(seed), iterations=iterations)
    solver, none = Solver(measurement), torch.zeros(len(measurement.y), dtype=torch.long)
    found = Followed(
        watch, torch.zeros(len(none), *measurement.operator.input_shape, dtype=measurement.y.dtype), none, none
    )
    for iteration in range(1, iterations + 1):
        output, average = solver.step(watch)
        verdict = watch.update(iteration, output, average)
        running = found.stopped_at == 0
        improved = verdict.improved & running
        found.answer = torch.where(improved.view(-1, 1, 1, 1), average if watch.average else output, found.answer)
        found.kept_at = torch.where(improved, iteration, found.kept_at)
        found.stopped_at = torch.where(verdict.stop & running, iteration, found.stopped_at)
        for values, new in (
            (found.verdicts, verdict),
            (found.values, dict(watch.values)),
            (found.outputs, output),
            (found.averages, average),
        ):
            values.append(new)
        solver.follow(verdict)
        if verdict.restart is not None:
            found.kept_at = torch.where(verdict.restart, 0, found.kept_at)
        if bool((found.stopped_at > 0).all()):
            break
    return found


def at(flags: list[Tensor | None], image: int = 0) -> list[int]:
    """The iterations (from 1) at which an image is flagged."""
    return [i for i, f in enumerate(flags, start=1) if f is not None and bool(f[image])]
