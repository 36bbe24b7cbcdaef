"""The one interface of all methods: measurement in, restoration out. A posterior sampler and a classical baseline share
it, and therefore a table.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Denoiser
from restoration.needs import unmet

#: (step, number of steps, current estimate [B * N, C, H, W]) after each step of an iterative method.
OnStep = Callable[[int, int, Tensor], None]


class Unsupported(UserError):
    """What a method cannot do, with the reason; raised before anything runs."""


@dataclass(frozen=True)
class Cost:
    """What one restored sample costs: nfe network calls (forwards), of which backwards went through the network as
    well.
    """

    nfe: int = 0
    backwards: int = 0


@dataclass(frozen=True)
class Restoration:
    """samples [B, N, C, H, W] in [-1, 1] units (not clipped), N = 1 for a deterministic method;

    Args:
        trace: numbers by name over the steps; cost per sample.
        notes: one sentence per image for a person, where a method stops by itself: why, and after how many iterations.
    """

    samples: Tensor
    cost: Cost = Cost()
    trace: dict[str, list[float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bias:
    """How far the samples of a method may be from the posterior where that is known: on Gaussian data, in the worlds of
    tests/posterior_worlds.py, with 200 levels spaced as karras and without clipping.

    Units are those of the posterior N(m, C): its samples are white in C^(-1/2) (x - m). The default is an exact method
    at that number of steps and some thousand samples.

    Args:
        words: where the samples differ from the posterior and why, in one clause; empty for an exact method.
        mean: the largest length of the mean of C^(-1/2) (x - m).
        deviation: the least and the largest standard deviation of C^(-1/2) (x - m) in any direction.
    """

    words: str = ""
    mean: float = 0.1
    deviation: tuple[float, float] = (0.9, 1.1)


class Method(ABC):
    """restore(measurement, num_samples, random) -> Restoration.

    Options are keyword-only constructor arguments. A method that needs a prior takes it as the constructor argument
    `prior`, which the evaluation fills in; `needs_prior` says so, and `prior_kind` whether it is a denoiser or a cold
    restorer. What else it says of itself, as attributes of the class or of one made with other options:

    deterministic: gives one sample, whatever num_samples. uses_truth: an oracle, starred in every table. gives_image:
    it can use a prior that takes a conditioning image. needs: what it takes from the operator and the noise, names of
    restoration/needs.py, which `check` refuses where it is missing; reasons: by need, what it is for, where the words
    of that table would not say it. couples_samples: the samples of one image depend on each other (particles), so that
    asking for more of them changes each; those of other images never do. cost_varies: how often the network is called
    depends on the measurement, so that `calls` may be off. bias: of a method that draws from the posterior, how far off
    it is; None where it claims no such thing.
    """

    needs_prior: bool = False
    prior_kind: Literal["denoiser", "restorer"] = "denoiser"
    deterministic: bool = False
    uses_truth: bool = False
    gives_image: bool = False
    needs: frozenset[str] = frozenset()
    reasons: Mapping[str, str] = {}
    couples_samples: bool = False
    cost_varies: bool = False
    bias: Bias | None = None
    prior: Denoiser | ColdRestorer | None = None

    def check(self, operator: Operator, noise: Noise) -> None:
        """Raise Unsupported, with the reason, where this method cannot restore measurements of this kind."""
        if self.prior is not None and tuple(self.prior.data_shape) != tuple(operator.input_shape):
            channels = self.prior.data_shape[0]
            if channels != operator.input_shape[0]:
                raise Unsupported(
                    f"the prior was trained on images with {channels} channel(s), the images here have"
                    f" {operator.input_shape[0]}: give another --prior, or other data"
                )
        if getattr(self.prior, "takes_image", False) and not self.gives_image:
            raise Unsupported(
                "the prior takes a conditioning image, and this method makes none: use restoration.warm_start.WarmStart"
                " or .dip_with_prior.DIPWithPrior"
            )
        lacking = unmet(self.needs, operator, noise, reasons=self.reasons)
        if lacking is not None:
            name = type(self).__module__.rpartition(".")[2]
            raise Unsupported(f"{type(self).__name__ if name == '__main__' else name} needs {lacking}")

    @abstractmethod
    def calls(self) -> Cost:
        """The cost of one sample, known before anything runs: what --dry_run estimates with."""

    @abstractmethod
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        """Restore a batch. Sample k of image i draws from the streams keyed by (seed, stream, i, k) only, so batches
        and order do not matter.
        """
