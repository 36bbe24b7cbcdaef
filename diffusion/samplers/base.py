"""What all samplers share: an explicit list of levels, a step from one to the next, and no hidden randomness."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from common.random_streams import NoiseSequence
from common.tensor_shapes import Images
from diffusion.denoiser import Condition, Denoiser, Prediction

#: (x [B, C, H, W], sigma) -> Prediction; sigma is one number for the batch. Guidance is a function of this type around
#: another one.
Predict = Callable[[Tensor, float], Prediction]


@dataclass(frozen=True)
class Step:
    """The outcome of one step: x at the next level, the prediction at the level that was left, and what the next step
    must remember.
    """

    x: Images
    prediction: Prediction
    memory: Any = None


class Sampler(ABC):
    """Walks x = x0 + sigma * noise down an explicit, strictly decreasing list of levels that ends in 0; the next level
    is the next in the list.

    order: order of convergence of the deterministic part in the number of steps. stochastic: whether a step asks for
    noise. calls(n): network calls for n steps. highest: a list whose next level is below it begins there at most;
    finite for a sampler whose first step averages slopes, or extrapolates, over what lies between the two.
    """

    order: int
    stochastic: bool
    highest: float = math.inf

    @abstractmethod
    def step(
        self, predict: Predict, x: Images, sigma: float, sigma_next: float, memory: Any, noise: NoiseSequence | None
    ) -> Step:
        """One step from sigma to sigma_next < sigma for x [B, C, H, W] in x0 + sigma * noise units; memory is what the
        step before left.

        Before the first step it is what :meth:`start` gives, or None, which is the same for all samplers but Heun's
        with churn.
        """

    def start(self, levels: Sequence[float]) -> Any:
        """The memory of the first step for a list of levels [S + 1]."""
        return None

    def suited(self, sigmas: Tensor) -> Tensor:
        """The list as this sampler walks it: sigmas [S + 1], begun at `highest` where that lies between the first two
        levels.
        """
        if float(sigmas[0]) > self.highest > float(sigmas[1]):
            sigmas = torch.cat([sigmas.new_tensor([self.highest]), sigmas[1:]])
        return sigmas

    def check_first_step(self, levels: Sequence[float]) -> None:
        """ValueError where the first step of this list is not what the sampler's order promises."""
        del levels

    def check(self, denoiser: Denoiser) -> None:
        """ValueError where the sampler needs something that the denoiser does not say."""
        del denoiser

    def calls(self, steps: int) -> int:
        """Network calls (NFE) that `steps` steps cost."""
        return steps

    def sample(
        self,
        denoiser: Denoiser,
        x: Images,
        sigmas: Tensor,
        *,
        noise: NoiseSequence | None = None,
        condition: Condition | None = None,
        clip: bool = True,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Images:
        """The last x of the list, [B, C, H, W].

        x: the start, x0 + sigmas[0] * noise (for pure noise: sigmas[0] * standard normal). sigmas: levels [S + 1],
        strictly decreasing, the last is 0. noise: needed by stochastic samplers. clip: clip every x0 to [-1, 1] and
        derive eps again. on_step(i, x0) is called after each step. Call it under torch.no_grad() unless the gradient
        through all steps is wanted. Raises ValueError for a list that is not strictly decreasing or does not end in 0,
        where its first step is not what the sampler promises, and where noise is missing or the denoiser does
        not suit.
        """
        self.check(denoiser)
        levels = check_levels(sigmas)
        self.check_first_step(levels)
        if self.stochastic and noise is None:
            raise ValueError(f"{type(self).__name__} is stochastic: give it noise=random.sequence(...)")
        predict = predictor(denoiser, condition=condition, clip=clip)
        memory = self.start(levels)
        for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
            outcome = self.step(predict, x, sigma, sigma_next, memory, noise)
            x, memory = outcome.x, outcome.memory
            if on_step is not None:
                on_step(i, outcome.prediction.x0)
        return x


def predictor(denoiser: Denoiser, *, condition: Condition | None = None, clip: bool = True) -> Predict:
    """The denoiser as a function of x and one sigma for the whole batch, or a map of them [B, 1, H, W].

    Where no gradients are recorded the network runs in inference mode; what it gives back are plain tensors.
    """

    def predict(x: Tensor, sigma: float | Tensor) -> Prediction:
        level = sigma if isinstance(sigma, Tensor) else torch.full(x.shape[:1], sigma, dtype=x.dtype, device=x.device)
        if torch.is_grad_enabled():
            prediction = denoiser.predict(x, level, condition)
        else:
            with torch.inference_mode():
                prediction = denoiser.predict(x, level, condition)
            prediction = prediction.copied()
        return prediction.clipped(x, level) if clip else prediction

    return predict


def check_levels(sigmas: Tensor) -> list[float]:
    """The list of levels as numbers; ValueError where it is not finite, strictly decreasing and ending in 0."""
    levels = torch.as_tensor(sigmas, dtype=torch.float64).tolist()
    if len(levels) < 2 or levels[-1] != 0 or any(not a > b for a, b in pairwise(levels)) or levels[0] == float("inf"):
        raise ValueError(f"sigmas must be finite, strictly decreasing and end in 0, got {levels[:4]} ... {levels[-2:]}")
    return levels
