"""When an iterative restoration should stop, and which of its iterates is the answer. Knows nothing of networks:
iterates in, verdict out.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.build import Recorded
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise


@dataclass(frozen=True)
class Verdict:
    """What a criterion says of one iteration; each is bool [B], None means False for all.

    Args:
        improved: the present iterate is the best so far, keep it.
        stop: finished; an image that has stopped never improves again.
        reset: the target `Watch.y` of these images has changed, go on from the present weights with fresh optimiser
            moments.
        restart: their target has changed, begin again from the first weights; what was kept so far is forgotten.
    """

    improved: Tensor
    stop: Tensor
    reset: Tensor | None = None
    restart: Tensor | None = None


class Watch(ABC):
    """The state of a criterion for the B images of one measurement.

    y [B, *operator.output_shape]: what is to be fitted now: the measurement itself, or a target that the criterion made
    of it. weight: [B, ...] that broadcasts to y, 0 where a value is held out of the data term, else None. average:
    whether the criterion judges, and the answer is, the averaged or the raw iterate. values: what it monitors, by name,
    each [B], as of the newest update; `signal` names the one that decides.
    """

    y: Tensor
    weight: Tensor | None = None
    average: bool = True
    signal: str = ""

    def __init__(self, measurement: Measurement) -> None:
        self.measurement, self.y = measurement, measurement.y
        self.values: dict[str, Tensor] = {}

    @abstractmethod
    def update(self, iteration: int, output: Tensor, average: Tensor) -> Verdict:
        """Look at iterate number `iteration` (from 1, all stages counted): output and average [B, C, H, W] in [-1, 1],
        without gradient.

        Reads no number from the device; calls after an image has stopped are allowed and change nothing for it.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while it watches, as tensors and plain values: every attribute but the measurement
        and those whose name begins with _.
        """
        return {
            k: _state(v) for k, v in vars(self).items() if k not in ("measurement", "values") and not k.startswith("_")
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        for name, value in state.items():
            setattr(self, name, _restored(getattr(self, name), value, self.y.device))

    @abstractmethod
    def reason(self, image: int) -> str:
        """One clause for a person that says why image number `image` of the batch stopped: "its risk had not fallen for
        300 iterations".
        """


class StoppingCriterion(Recorded, ABC):
    """The options of a criterion; :meth:`watch` begins to look at a measurement. uses_truth: an oracle, starred in
    every table.
    """

    uses_truth: bool = False

    def check(self, operator: Operator, noise: Noise) -> None:
        """Raise restoration.base.Unsupported where this criterion cannot judge such measurements."""
        del operator, noise

    def check_iterations(self, iterations: int) -> None:
        """Raise UserError where so many iterations of all its fits together cannot do, warn where they hardly can."""
        del iterations

    @abstractmethod
    def watch(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> Watch:
        """The state before the first iteration; `iterations`: the most that the solver will do, all stages counted."""


class Patience:
    """The least value so far and how long ago it was, per image: what most criteria end with.

    Args:
        patience: stop after so many iterations without a strictly lower value. `improved` and `stopped` are bool [B]
            after each :meth:`update`.
    """

    def __init__(self, images: int, patience: int, device: torch.device) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, got {patience}")
        self.patience = patience
        self.least = torch.full((images,), float("inf"), dtype=torch.float64, device=device)
        self.at = torch.zeros(images, dtype=torch.long, device=device)
        self.stopped = torch.zeros(images, dtype=torch.bool, device=device)
        self.improved = self.stopped.clone()

    def update(self, iteration: int, value: Tensor, judged: Tensor | None = None) -> None:
        """value [B]; judged: bool [B], False where the value does not count (yet)."""
        self.improved = (value < self.least) & ~self.stopped
        if judged is not None:
            self.improved &= judged
        self.least = torch.where(self.improved, value.double(), self.least)
        self.at = torch.where(self.improved, iteration, self.at)
        self.stopped = self.stopped | ((iteration - self.at >= self.patience) & (self.at > 0))

    def reset(self, images: Tensor) -> None:
        """Forget everything of these images, bool [B]."""
        self.least = torch.where(images, float("inf"), self.least)
        self.at = torch.where(images, 0, self.at)
        self.stopped = self.stopped & ~images


def _state(value: Any) -> Any:
    """A copy of what an attribute holds, without objects of our own: tensors are cloned, later iterations must not
    change what was taken.
    """
    if isinstance(value, Patience):
        return {k: _state(v) for k, v in vars(value).items()}
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, (list, tuple)):
        return [_state(v) for v in value]
    if isinstance(value, dict):
        return {k: _state(v) for k, v in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"the state of a criterion must be tensors, plain values and Patience, got {type(value).__name__}")


def _restored(present: Any, value: Any, device: torch.device) -> Any:
    if isinstance(present, Patience):
        for name, inner in value.items():
            setattr(present, name, _restored(getattr(present, name), inner, device))
        return present
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        olds = (
            list(present) if isinstance(present, (list, tuple)) and len(present) == len(value) else [None] * len(value)
        )
        return [_restored(old, v, device) for old, v in zip(olds, value, strict=True)]
    if isinstance(value, dict):
        olds = present if isinstance(present, dict) else {}
        return {k: _restored(olds.get(k), v, device) for k, v in value.items()}
    return value


def images_mean(x: Tensor) -> Tensor:
    """The mean over everything but the batch, float64 [B]."""
    return x.double().flatten(1).mean(1)
