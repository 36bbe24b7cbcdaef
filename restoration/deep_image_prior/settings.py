"""The numbers of a deep image prior, as published per task: Ulyanov et al. 2018 (1711.10925), the released
notebooks.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from common.errors import UserError
from degradations.base import Operator
from networks.untrained.base import Architecture
from networks.untrained.skip import SkipArchitecture
from restoration.deep_image_prior.schedules import LAWS, SCHEDULES, JitterLaw, Schedule

InputKind = Literal["uniform", "normal", "meshgrid"]

#: (preset of the network, further settings) by task. jitter in units of the input, which has standard deviation 0.029
#: where it is "uniform", as published.
TASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "denoising": ("denoising", {"iterations": 3000, "jitter": 1 / 30}),
    "super_resolution_x4": ("denoising", {"iterations": 2000, "jitter": 0.03}),
    "super_resolution_x8": ("denoising", {"iterations": 4000, "jitter": 0.05}),
    "text_inpainting": ("text_inpainting", {"iterations": 6001, "jitter": 0.03}),
    "region_inpainting": ("region_inpainting", {"iterations": 5001, "jitter": 0.03, "input": "meshgrid"}),
    "large_hole_inpainting": ("large_hole_inpainting", {"iterations": 3001, "jitter": 0.0}),
    "random_pixels": ("denoising", {"iterations": 11000, "jitter": 0.03, "learning_rate": 0.001}),
    "sparse_pixels": ("sparse_pixels", {"iterations": 1000, "jitter": 0.0}),
    "jpeg": ("jpeg", {"iterations": 2400, "jitter": 1 / 30}),
}

#: The standard deviation of a "normal" input over that of a "uniform" one.
WIDER = math.sqrt(12)

# from this side on the published networks fit; below, their deepest scales would have less than three pixels
_LARGE = 96


@dataclass(frozen=True)
class DIPSettings:
    """How a deep image prior is fitted.

    Args:
        architecture: of the network.
        iterations: the most, all stages of a stopping criterion counted.
        learning_rate: of Adam.
        input: what z is drawn from: uniform or normal, times 0.1, or the coordinates x / (W - 1), y / (H - 1).
        jitter: standard deviation of the noise that is added to z anew at every iteration.
        averaging: of the exponential average of the outputs.
        backtrack_db: go back to the weights of the last check, `backtrack_every` iterations ago, where the PSNR to the
            target fell by more; 0: never.
        langevin: after every step the weights of the convolutions get langevin * learning_rate * N(0, 1) (stochastic
            gradient Langevin dynamics, Cheng et al. 2019, 1904.07457).
        bf16: the network under bfloat16 autocast.
        learning_rate_schedule: what the learning rate is multiplied by at each iteration, see
            restoration/deep_image_prior/schedules.py; it begins anew with every pass of a stopping criterion.
        jitter_schedule: likewise of the jitter.
        schedule_iterations: after how many iterations a schedule has come to its end; null: after all of `iterations`.
        jitter_law: of the noise on the input, all with the standard deviation `jitter`.
    """

    architecture: Architecture
    iterations: int = 3000
    learning_rate: float = 0.01
    input: InputKind = "uniform"
    jitter: float = 1 / 30
    averaging: float = 0.99
    backtrack_db: float = 5.0
    backtrack_every: int = 100
    langevin: float = 0.0
    bf16: bool = False
    learning_rate_schedule: Schedule = "constant"
    jitter_schedule: Schedule = "constant"
    schedule_iterations: int | None = None
    jitter_law: JitterLaw = "normal"

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.learning_rate > 0 or self.backtrack_every < 1:
            raise ValueError(
                "iterations and backtrack_every must be at least 1 and learning_rate positive, got "
                f"{self.iterations}, {self.backtrack_every}, {self.learning_rate}"
            )
        if self.input not in ("uniform", "normal", "meshgrid"):
            raise ValueError(f"input must be uniform, normal or meshgrid, got '{self.input}'")
        if self.jitter < 0 or not 0 <= self.averaging < 1 or self.langevin < 0 or self.backtrack_db < 0:
            raise ValueError(
                f"jitter, langevin and backtrack_db must be at least 0 and averaging in [0, 1), got {self.jitter},"
                f" {self.langevin}, {self.backtrack_db}, {self.averaging}"
            )
        for name in ("learning_rate_schedule", "jitter_schedule"):
            if getattr(self, name) not in SCHEDULES:
                raise ValueError(f"{name} must be one of {', '.join(SCHEDULES)}, got '{getattr(self, name)}'")
        if self.jitter_law not in LAWS:
            raise ValueError(f"jitter_law must be one of {', '.join(LAWS)}, got '{self.jitter_law}'")
        if self.schedule_iterations is not None and self.schedule_iterations < 1:
            raise ValueError(f"schedule_iterations must be at least 1 or null, got {self.schedule_iterations}")
        if self.input == "meshgrid" and self.architecture.inputs != 2:
            raise ValueError(
                f"input meshgrid has 2 channels, and the architecture takes {self.architecture.inputs}: set its inputs"
                " to 2"
            )

    def learning_rate_factor(self, step: int) -> float:
        """Of the learning rate after `step` iterations of a pass."""
        return SCHEDULES[self.learning_rate_schedule](step, self.schedule_iterations or self.iterations)

    def jitter_factor(self, step: int) -> float:
        """Of the jitter after `step` iterations of a pass."""
        return SCHEDULES[self.jitter_schedule](step, self.schedule_iterations or self.iterations)

    def check(self, operator: Operator) -> None:
        """UserError where the image is smaller than the network allows."""
        height, width = operator.input_shape[1:]
        least = self.architecture.least
        if min(height, width) < least:
            raise UserError(
                f"the image has {width}x{height} pixels (width x height), and this network needs at least {least} x"
                f" {least}: give an architecture with fewer scales (networks.untrained.skip.SkipArchitecture, preset"
                " small, needs 16 x 16, and with channels [64, 64] 8 x 8), or a larger image"
            )


def task_of(operator: Operator) -> str:
    """The published task that is nearest to an operator: by its mask, or by how much smaller the measurement is than
    the image.
    """
    mask = operator.mask
    if mask is not None:
        known = float(mask.mean())
        return "denoising" if known == 1 else "text_inpainting" if known > 0.2 else "sparse_pixels"
    factor = (
        operator.input_shape[-1]
        * operator.input_shape[-2]
        / max(1, operator.output_shape[-1] * operator.output_shape[-2])
    ) ** 0.5
    return "super_resolution_x8" if factor > 6 else "super_resolution_x4" if factor > 1.5 else "denoising"


def settings_for(
    operator: Operator, task: str | None = None, architecture: Architecture | None = None, **changes: object
) -> DIPSettings:
    """The published settings of a task (null: the one nearest to the operator), replaced by those that the architecture
    has of its own, and all by those in `changes` that are not None.

    A task's jitter is that of a uniform input; a normal one gets as much of it for its own standard deviation, unless
    the architecture or `changes` name one. Pictures with a side below 96 pixels get the preset "small" and half of the
    iterations, unless an architecture is given.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got '{task}'")
    preset, numbers = TASKS[task or task_of(operator)]
    if architecture is None and min(operator.input_shape[1:]) < _LARGE:
        preset, numbers = "small", {**numbers, "iterations": min(3000, numbers["iterations"]) // 2, "input": "uniform"}
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("input") == "normal":
        # without it 1.5 dB less (docs/results/deep_image_prior.md)
        numbers = {**numbers, "jitter": numbers["jitter"] * WIDER}
    if architecture is not None and architecture.jitter is not None:
        numbers = {**numbers, "jitter": architecture.jitter}
    numbers = {**numbers, **given}
    if architecture is None:
        architecture = SkipArchitecture(preset=preset, inputs=2 if numbers.get("input") == "meshgrid" else None)
    return DIPSettings(architecture=architecture, **numbers)
