"""The rows of a method's card: samples drawn, measured and written as lines of a table."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch

from common.one_stream import OneStream
from diffusion.closed_form import MixtureDenoiser
from diffusion.denoiser import Denoiser
from diffusion.levels import spaced_sigmas
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Cost, Method
from studies.oracle.cases import BUDGETS, CARDS, Variant
from studies.oracle.measures import Row, measure_samples
from studies.oracle.worlds import PRIORS, SHAPE, FlowPrior, World, world

SAMPLES = 100  # of each measurement
SEED = 1
#: The name under which the reference stands among the methods.
EXACT = "exact"
OWN_TIMES = "flow's own times"


@dataclass(frozen=True)
class Line:
    """Where a row was measured: default is True for the number of calls that a method makes unless told otherwise."""

    method: str
    variant: str
    prior: str
    task: str
    calls: int
    backwards: int
    default: bool
    row: Row

    def cells(self) -> dict[str, str]:
        """For a table of numbers, each with four digits."""
        flat = {k: v for k, v in asdict(self).items() if k != "row"}
        numbers = [*self.row.mean, *self.row.deviation, *self.row.coverage, self.row.residual]
        flat |= {name: f"{value:.4g}" for name, value in zip(NUMBERS, numbers, strict=True)}
        return {k: str(v) for k, v in flat.items()} | {"weights": " ".join(f"{w:.4g}" for w in self.row.weights)}

    @classmethod
    def of(cls, cells: dict[str, str]) -> "Line":
        values = [float(cells[name]) for name in NUMBERS]
        return cls(
            **{name: cells[name] for name in ("method", "variant", "prior", "task")},
            calls=int(cells["calls"]),
            backwards=int(cells["backwards"]),
            default=cells["default"] == "True",
            row=Row(
                mean=(values[0], values[1]),
                deviation=(values[2], values[3]),
                coverage=tuple(values[4:7]),
                residual=values[7],
                weights=tuple(float(w) for w in cells["weights"].split()),
            ),
        )


NUMBERS = (
    *("mean_seen", "mean_unseen", "deviation_seen", "deviation_unseen"),
    *("coverage_50", "coverage_90", "coverage_95", "residual"),
)


def sampled(method: Method, where: World, *, samples: int = SAMPLES, seed: int = SEED) -> Row:
    """The row of a method in a world."""
    found = method.restore(where.measurement, num_samples=samples, random=OneStream(seed)).samples
    return measure_samples(found, where)


def lines(name: str) -> Iterator[Line]:
    """All rows of a card, as they are done."""
    for variant in CARDS[name]:
        for task in variant.tasks:
            for prior in PRIORS if task != "blur" else ("gaussian",):
                yield from _of_world(name, variant, prior, task)


def _of_world(name: str, variant: Variant, prior: str, task: str) -> Iterator[Line]:
    where, done = world(prior, task), set()
    default = variant.make(where.prior, None)
    assert default is not None  # every method has defaults
    first = variant is CARDS[name][0]
    for calls in (*budgets(task), None) if first else budgets(task):
        method = variant.make(where.prior, calls)
        cost = None if method is None else cost_of(method, where)
        if method is None or cost is None or any(_about(cost.nfe, other) for other in done):
            continue
        done.add(cost.nfe)
        usual = _about(cost.nfe, cost_of(default, where).nfe)
        yield Line(name, variant.words, prior, task, cost.nfe, cost.backwards, usual, sampled(method, where))
        if calls == 100 and (prior, task) == ("gaussian", "half") and first:
            other = variant.make(FlowPrior(where.prior, own_times=True), calls)
            assert other is not None  # made for the same number of calls before
            yield Line(name, OWN_TIMES, prior, task, cost.nfe, cost.backwards, False, sampled(other, where))


def _about(calls: int, other: int) -> bool:
    """Whether two numbers of calls are one row."""
    return abs(calls - other) < 0.02 * other


def budgets(task: str) -> tuple[int, ...]:
    """The second world of the Gaussian prior is looked at with fewer calls."""
    return BUDGETS[:2] if task == "blur" else BUDGETS


def cost_of(method: Method, where: World) -> Cost:
    """Some depend on the measurement."""
    if not method.cost_varies:
        return method.calls()
    return method.restore(where.measurement.pick([0]), random=OneStream(0)).cost


def flow_difference(name: str, *, samples: int = 4) -> float:
    """The largest difference between samples of the prior as it is and as a flow at the same levels, in standard
    deviations of the posterior's pixels.
    """
    variant = CARDS[name][0]
    where = world("gaussian", variant.tasks[0])
    found = []
    for prior in (where.prior, FlowPrior(where.prior, own_times=False)):
        method = variant.make(prior, BUDGETS[0]) or variant.make(prior, None)
        assert method is not None
        found.append(method.restore(where.measurement, num_samples=samples, random=OneStream(SEED)).samples.double())
    deviation = math.sqrt(float(where.posterior.covariance.diagonal(dim1=1, dim2=2).mean()))
    return float((found[0] - found[1]).abs().max()) / deviation


def exact_lines(most: int = BUDGETS[-1]) -> Iterator[Line]:
    """What steps alone cost, up to so many: ancestral steps with the exact score of the posterior itself, an oracle
    that no method has; and exact samples, as many, which say how far a row lies from the formula by chance.
    """
    for prior, task in (("gaussian", "half"), ("mixture", "half"), ("gaussian", "blur")):
        where = world(prior, task)
        drawn = where.posterior.draw(SAMPLES, torch.Generator().manual_seed(SEED)) @ where.basis.T
        yield Line(EXACT, "exact samples", prior, task, 0, 0, False, measure_samples(_images(drawn), where))
        for calls in (c for c in budgets(task) if c <= most):
            chains = [_ancestral(denoiser, calls) for denoiser in _conditionals(where)]
            found = measure_samples(torch.stack(chains), where)
            yield Line(EXACT, "exact conditional score", prior, task, calls, 0, False, found)


def _images(x: torch.Tensor) -> torch.Tensor:
    return x.unflatten(-1, SHAPE)


def _conditionals(where: World) -> Iterator[Denoiser]:
    """The posterior of each measurement, as a prior."""
    exact = where.posterior.turned(where.basis.T)
    covariances = (exact.covariances + exact.covariances.mT) / 2
    for weights, means in zip(exact.weights, exact.means, strict=True):
        yield MixtureDenoiser(
            weights=weights.tolist(), means=list(means), covariances=list(covariances), data_shape=SHAPE
        )


@torch.no_grad()
def _ancestral(denoiser: Denoiser, calls: int) -> torch.Tensor:
    """[SAMPLES, C, H, W]."""
    sigmas, random, rows = spaced_sigmas(denoiser, calls), OneStream(SEED), range(SAMPLES)
    start = float(sigmas[0]) * random.normal_batch("start", rows, rows, SHAPE)
    noise = random.sequence("steps", rows, rows, SHAPE)
    return AncestralDDPM().sample(denoiser, start, sigmas, noise=noise, clip=False)
