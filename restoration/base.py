"""The one interface of all methods: measurement in, restoration out. A posterior sampler and a classical baseline share
it, and therefore a table.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
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


class Method(ABC):
    """restore(measurement, num_samples, random) -> Restoration.

    Options are keyword-only constructor arguments. A method that needs a prior takes it as the constructor argument
    `prior`, which the evaluation fills in; `needs_prior` says so, and `prior_kind` whether it is a denoiser or a cold
    restorer. deterministic: gives one sample, whatever num_samples. uses_truth: an oracle, starred in every table.
    gives_image: it can use a prior that takes a guide.
    """

    needs_prior: bool = False
    prior_kind: Literal["denoiser", "restorer"] = "denoiser"
    deterministic: bool = False
    uses_truth: bool = False
    gives_image: bool = False
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
        del noise

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


def repeat_samples(measurement: Measurement, num_samples: int) -> tuple[list[int], list[int]]:
    """The image index and the sample index of each row of a batch of B * N chains: image-major, ([i0, i0, i1, i1], [0,
    1, 0, 1]).
    """
    index = [i for i in measurement.index for _ in range(num_samples)]
    sample = [k for _ in measurement.index for k in range(num_samples)]
    return index, sample
