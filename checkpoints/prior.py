"""What a checkpoint says of a denoiser: plain dictionaries under the key `prior`. Reading files: checkpoints/load.py.

A training checkpoint (.ckpt) holds `prior`, `state_dict` (raw weights, keys "denoiser.network. ...") and `ema`
(averaged weights by the network's own names). A released prior (.safetensors) holds one set of weights by the network's
own names, and `prior` as JSON in its header.
"""

from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from common.build import Recorded, build
from common.errors import UserError
from diffusion.assemble import assemble
from diffusion.continuous import ContinuousDenoiser
from diffusion.denoiser import DiscreteDenoiser, NetworkDenoiser
from diffusion.edm import EDMDenoiser
from diffusion.image_conditioning import ConditioningOptions, ImageConditionedDenoiser
from diffusion.schedules import TrainingLevels

FORMAT = 1
PREFIX = "denoiser.network."  # where a LightningModule keeps the network


@dataclass(frozen=True)
class LoadedPrior:
    """A denoiser read from a file.

    Args:
        denoiser: in eval mode, frozen, on the device asked for.
        description: the plain `prior` dictionary.
        fingerprint: identifies file and weights.
    """

    denoiser: NetworkDenoiser
    description: dict[str, Any]
    fingerprint: str


def describe_prior(denoiser: NetworkDenoiser, *, data: str, training: dict[str, Any] | None = None) -> dict[str, Any]:
    """The `prior` dictionary of a denoiser: network, schedule, wrapper, shape and range of the data; TypeError where
    the network is not Recorded.

    `schedule` is a table or, for predictions "edm" and "velocity", the distribution of training times. `variance`
    ("learned_range"), `sigma_data` and `conditioning image` are there where they apply.
    """
    if not isinstance(denoiser.network, Recorded):
        raise TypeError(
            f"{type(denoiser.network).__name__} must be a common.build.Recorded, so that a checkpoint can describe it"
        )
    continuous = isinstance(denoiser, ContinuousDenoiser)
    schedule: Recorded = denoiser.levels if continuous else cast(DiscreteDenoiser, denoiser).schedule
    return {
        "format": FORMAT,
        "kind": "denoiser",
        "prediction": denoiser.prediction,
        **({"sigma_data": denoiser.sigma_data} if isinstance(denoiser, EDMDenoiser) else {}),
        **({"variance": denoiser.variance} if denoiser.learns_variance else {}),
        **({"guide": denoiser.describe()} if isinstance(denoiser, ImageConditionedDenoiser) else {}),
        "network": denoiser.network.spec,
        "schedule": schedule.spec,
        "data": {"name": data, "shape": list(denoiser.data_shape), "range": [-1, 1]},
        "training": dict(training or {}),
    }


def build_denoiser(description: dict[str, Any], *, where: str) -> NetworkDenoiser:
    """The untrained denoiser that a `prior` dictionary describes; UserError where it is not one that this version
    reads.
    """
    if description.get("kind") == "restorer":
        raise UserError(
            f"{where} is a cold restorer, which has no levels of noise: restore with restoration.cold.ColdSampling,"
            " draw with python -m studies.cold_generation, or give a denoiser"
        )
    if description.get("format") != FORMAT or description.get("kind") != "denoiser":
        raise UserError(
            f"{where} has format {description.get('format')!r} and kind {description.get('kind')!r}; this version reads"
            f" format {FORMAT}, kind 'denoiser'"
        )
    try:
        network, schedule, shape, prediction = (
            description["network"],
            description["schedule"],
            description["data"]["shape"],
            description["prediction"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} does not describe its {error}: it is incomplete, export or train it again") from error
    try:
        return assemble(
            network=build(network, nn.Module, where=f"{where}, network", project_only=True),
            schedule=build(schedule, TrainingLevels, where=f"{where}, schedule", project_only=True),
            prediction=prediction,
            data_shape=tuple(shape),
            variance=description.get("variance", "fixed"),
            conditioning=ConditioningOptions(**description["guide"]) if "guide" in description else None,
            **({"sigma_data": description["sigma_data"]} if "sigma_data" in description else {}),
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
