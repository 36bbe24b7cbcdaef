"""What is added to the data term of a deep image prior: loss = data term + sum of terms."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from common.build import Recorded
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Cost


class ActiveTerm(ABC):
    """A term at work on the B images of one measurement; images never influence each other."""

    @abstractmethod
    def loss(self, output: Tensor, iteration: int) -> Tensor:
        """The weighted loss [B] of the outputs f [B, C, H, W] in [-1, 1], with gradient; iteration counts from 1."""

    def after_step(self, output: Tensor, average: Tensor, iteration: int) -> None:
        """Called after the optimiser's step with the outputs of that iteration, without gradient: what learns beside
        the network learns here.
        """
        del output, average, iteration

    def state_dict(self) -> dict[str, Any]:
        """What changes while it works, as tensors and plain values; nothing unless a leaf learns or counts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        del state


class Term(Recorded, ABC):
    """The options of a term. per_iteration: what one iteration costs beyond the untrained network, at most.
    calls_of_rows: how many rows a prior was really asked about, over all fits since somebody set it to 0; for terms
    that ask one.
    """

    per_iteration: Cost = Cost()
    calls_of_rows: int = 0

    def check(self, operator: Operator, noise: Noise) -> None:
        """Raise restoration.base.Unsupported where this term has nothing to say of such measurements."""
        del operator, noise

    @abstractmethod
    def begin(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> ActiveTerm:
        """The term at work on a measurement; draws from `random` under stream names of its own, keyed by image
        index.
        """
