"""What a checkpoint says of a cold restorer: as of a denoiser, with a degradation family in place of a schedule."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from checkpoints.prior import FORMAT
from common.build import Recorded, build
from common.errors import UserError
from degradations.severity.base import SeverityFamily
from diffusion.cold_restorer import ColdRestorer
from diffusion.cold_starts.base import Start

KIND = "restorer"
PREFIX = "restorer.network."  # where the LightningModule keeps the network


@dataclass(frozen=True)
class LoadedColdRestorer:
    """A cold restorer read from a file.

    Args:
        restorer: in eval mode, frozen, on the device asked for.
        start: where generation begins, fitted, or None.
        description: the plain `prior` dictionary.
    """

    restorer: ColdRestorer
    start: Start | None
    description: dict[str, Any]
    fingerprint: str


def describe_cold_restorer(
    restorer: ColdRestorer, *, data: str, start: Start | None = None, training: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The `prior` dictionary of a restorer: network, family, shape and range of the data; TypeError where the network
    is not Recorded.
    """
    if not isinstance(restorer.network, Recorded):
        raise TypeError(
            f"{type(restorer.network).__name__} must be a common.build.Recorded, so that a checkpoint can describe it"
        )
    return {
        "format": FORMAT,
        "kind": KIND,
        "network": restorer.network.spec,
        "family": restorer.family.spec,
        "data": {"name": data, "shape": list(restorer.data_shape), "range": [-1, 1]},
        **({"start": start.spec, "start_state": start.state()} if start is not None else {}),
        "training": dict(training or {}),
    }


def build_cold_restorer(description: dict[str, Any], *, where: str) -> tuple[ColdRestorer, Start | None]:
    """The untrained restorer that a `prior` dictionary describes, and its start; UserError where it is not one that
    this version reads.
    """
    if description.get("kind") == "denoiser":
        raise UserError(
            f"{where} is a denoiser, and a cold restorer is needed: give a checkpoint that"
            " lightning_modules.cold_diffusion.ColdDiffusion trained"
        )
    if description.get("format") != FORMAT or description.get("kind") != KIND:
        raise UserError(
            f"{where} has format {description.get('format')!r} and kind {description.get('kind')!r}; this version reads"
            f" format {FORMAT}, '{KIND}'"
        )
    try:
        network, family, shape = description["network"], description["family"], description["data"]["shape"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} does not describe its {error}: it is incomplete, export or train it again") from error
    try:
        restorer = ColdRestorer(
            network=build(network, nn.Module, where=f"{where}, network", project_only=True),
            family=build(family, SeverityFamily, where=f"{where}, family", project_only=True),
            data_shape=tuple(shape),
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if "start" not in description:
        return restorer, None
    start = build(description["start"], Start, where=f"{where}, start", project_only=True)
    start.load(description.get("start_state") or {})
    return restorer, start
