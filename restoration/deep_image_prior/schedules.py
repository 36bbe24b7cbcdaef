"""How the learning rate and the noise on the input change during a fit of the deep image prior, and what law that noise
has.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Schedule = Literal["constant", "cosine", "exponential"]
JitterLaw = Literal["normal", "uniform", "sign"]

#: Where a falling schedule ends, and stays: a fit that goes on after its end must still be able to move.
LEAST = 0.01


def _progress(step: int, horizon: int) -> float:
    return min(step / horizon, 1.0)


def _cosine(step: int, horizon: int) -> float:
    return LEAST + (1 - LEAST) * (1 + math.cos(math.pi * _progress(step, horizon))) / 2


#: The factor of each schedule after `step` of `horizon` iterations: 1; a half cosine from 1 to `LEAST`; a geometric
#: descent from 1 to `LEAST`.
SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "constant": lambda _step, _horizon: 1.0,
    "cosine": _cosine,
    "exponential": lambda step, horizon: LEAST ** _progress(step, horizon),
}

#: From standard normal values to values of another law with mean 0 and standard deviation 1, each from its own, so that
#: fits under two laws see noise of the same rank in every pixel.
LAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda noise: noise,
    "uniform": lambda noise: math.sqrt(12) * (torch.special.ndtr(noise) - 0.5),
    "sign": lambda noise: torch.where(noise < 0, -1.0, 1.0).to(noise),
}
