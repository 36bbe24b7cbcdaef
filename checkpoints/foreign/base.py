"""A prior that another project wrote, read into our own terms: what remains is a network of ours, its weights, and a
schedule of ours.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from checkpoints.files import load_weights, refuse_lfs_pointer
from common.errors import UserError, disk_message
from common.files import sha256_of
from diffusion.assemble import assemble
from diffusion.denoiser import NetworkDenoiser
from diffusion.schedules import TrainingLevels
from networks.unet import UNet


@dataclass(frozen=True)
class ForeignPrior:
    """What is known of another project's prior, in our own terms.

    Args:
        network: options of our network.
        tensors: its weights by our names, in any precision.
        shape: (C, H, W).
        digest: of the bytes of all files that were read.
        where: names the files in messages.
        training: what else is known, plain values.
        network_class: which of our networks it is.
    """

    network: dict[str, Any]
    tensors: dict[str, Tensor]
    schedule: TrainingLevels
    prediction: str
    variance: str
    shape: tuple[int, int, int]
    digest: str
    where: str
    data: str = "unknown"
    training: dict[str, Any] = field(default_factory=dict)
    network_class: type[nn.Module] = UNet

    def denoiser(self) -> NetworkDenoiser:
        """The network with its weights in float32; UserError for weights that do not fit or are not finite, and for
        parts that contradict each other.
        """
        with torch.device("meta"):  # initial weights of half a billion parameters take longer than reading them
            network = self.network_class(**self.network)
        network.to_empty(device="cpu")
        load_weights(network, self.tensors, where=self.where)
        try:
            return assemble(
                network=network,
                schedule=self.schedule,
                prediction=self.prediction,
                data_shape=self.shape,
                variance=self.variance,
            )
        except ValueError as error:
            raise UserError(f"{self.where}: {error}") from error


def digest_of(paths: Sequence[Path], *more: str) -> str:
    """SHA-256 of the hashes of files, in this order, and of more text."""
    return hashlib.sha256("\n".join([*(sha256_of(path) for path in paths), *more]).encode()).hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file; UserError where it is damaged or is none."""
    try:
        refuse_lfs_pointer(path)
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except safetensors.SafetensorError as error:
        raise UserError(f"'{path}' cannot be read: it is damaged or not a safetensors file") from error
    except OSError as error:
        raise UserError(disk_message(error) or f"'{path}' cannot be read ({error})") from error


def only_tensors(content: dict[Any, Any], path: Path) -> dict[str, Tensor]:
    """The same where it is a plain dictionary of weights by name; UserError that names the first entry that is not."""
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(
                f"'{path}' is not a plain dictionary of weights: its entry {name!r} is a {type(value).__name__}"
            )
    return content
