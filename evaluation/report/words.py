"""What each task and method is, in words: for the reader of a report who did not write the configuration."""

import inspect
import sys
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from common.image_range import sigma_to_255
from degradations.noise import Noise
from evaluation.plan import BuiltTask, Plan


@dataclass(frozen=True)
class Words:
    """A sentence or two by name."""

    tasks: dict[str, str]
    methods: dict[str, str]


def words_of(plan: Plan) -> Words:
    """Of every task: its operator, noise and images; of every method: what its file says of it, and its options."""
    return Words(
        tasks={name: _task(plan, task) for name, task in plan.tasks.items()},
        methods={name: _method(plan, name) for name in plan.methods},
    )


def _task(plan: Plan, task: BuiltTask) -> str:
    shape, rows = next(iter(plan.shapes(task.rows).items()))
    try:
        operator = task.degradation.operator_for(shape, plan.images.get(rows[:1]).index.tolist(), plan.random)
        what = operator.description or type(task.degradation).__name__
    except (UserError, ValueError):
        what = type(task.degradation).__name__
    sizes = " and ".join("x".join(map(str, s)) for s in list(plan.shapes(task.rows))[:3])
    return f"{_capital(what)}; {_noise(task.noise)}. {len(task.rows)} images of {sizes}."


def _noise(noise: Noise) -> str:
    if noise.sigma == 0:
        return "no noise"
    level = f"σ = {noise.sigma:.4g} in [-1, 1], {sigma_to_255(noise.sigma):.4g} of 255"
    return f"white Gaussian noise, {level}" if noise.is_white else f"{type(noise).__name__}, nominal {level}"


def _method(plan: Plan, name: str) -> str:
    built, entry = plan.methods[name], plan.config.methods[name]
    module = sys.modules[type(built.method).__module__]
    said = " ".join((inspect.getdoc(module) or "").split("\n\n")[0].split())
    options = ", ".join(f"{key} {_short(value)}" for key, value in entry.init_args.items())
    parts = [f"{_capital(said)}" if said else type(built.method).__name__ + "."]
    parts += [f"Options: {options}."] if options else []
    parts += (
        [f"Prior: {entry.prior}, {plan.config.priors[entry.prior].path}."] if built.method.prior is not None else []
    )
    parts += [f"{built.num_samples} samples of each image."] if built.num_samples > 1 else []
    return " ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class_path" in value:
        value = value["class_path"].rpartition(".")[2]
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
