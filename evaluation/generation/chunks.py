"""Drawn images in chunks, each one file that is whole or absent: what makes an evaluation go on where it
was stopped.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.files import write_atomically
from common.image_range import to_uint8
from common.memory import in_batches
from common.random_streams import RandomStreams
from diffusion.drawing import draw
from evaluation.generation.plan import Cell, Plan
from metrics.features import Features

CHUNK = 100  # images in a file; fixed, so that files do not depend on batch size and devices
SHEET = 100  # the first so many images are kept as pixels


@dataclass(frozen=True)
class Chunk:
    """Images first .. first + count - 1 of a cell."""

    cell: int
    first: int
    count: int

    @property
    def index(self) -> list[int]:
        return list(range(self.first, self.first + self.count))


@dataclass(frozen=True)
class Drawn:
    """A chunk that is there: its features, the pixels of the images that the sheet shows, seconds of drawing, network
    evaluations per image.
    """

    features: Features
    pixels: Tensor
    count: int
    seconds: float
    nfe: float


def chunks_of(plan: Plan) -> list[Chunk]:
    """All chunks, cell after cell."""
    total = plan.config.num_images
    return [Chunk(c, k, min(CHUNK, total - k)) for c in range(len(plan.cells)) for k in range(0, total, CHUNK)]


def chunk_path(folder: Path, cell: Cell, chunk: Chunk) -> Path:
    return folder / "drawn" / cell.name / f"{chunk.first:07d}.safetensors"


def draw_chunk(plan: Plan, folder: Path, chunk: Chunk) -> None:
    """Draw, measure and write one chunk."""
    cell, random = plan.cells[chunk.cell], RandomStreams(plan.config.seed)
    parts: list[Features] = []
    pixels: list[Tensor] = []
    seconds = 0.0

    def draw_batch(index: list[int]) -> None:
        nonlocal seconds
        before = seen[0]
        _wait(plan.device)
        began = time.perf_counter()
        try:
            condition = cell.conditioning.of_drawing(index, plan.device)
            x = draw(
                cell.denoiser,
                cell.sampler,
                cell.sigmas,
                index=index,
                random=random,
                device=plan.device,
                condition=condition,
            )
            _wait(plan.device)
            took = time.perf_counter() - began
            drawn = to_uint8(x).cpu()
            features = plan.features.of(drawn)
        except BaseException:
            seen[0] = before  # these are drawn again, fewer at once
            raise
        if not bool(torch.isfinite(x).all()):
            raise UserError(
                f"samplers.{cell.sampler_name} with {cell.steps} steps gives images that are not finite: take more"
                " steps or another spacing"
            )
        seconds += took
        parts.append(features)
        pixels.append(drawn)

    with _evaluations(cell.network) as seen:
        in_batches(
            chunk.index,
            plan.config.batch_size,
            draw_batch,
            none_fits=f"{cell.name}: the device has too little memory to draw one image; use another device",
        )
    features = Features.joined(parts)
    content = {
        "features": features.features.contiguous(),
        "pixels": torch.cat(pixels)[: max(0, SHEET - chunk.first)].contiguous(),
    }
    if features.probabilities is not None:
        content["probabilities"] = features.probabilities.contiguous()
    facts = {"fingerprint": cell.fingerprint, "count": chunk.count, "seconds": seconds, "nfe": seen[0] / chunk.count}
    write_atomically(
        chunk_path(folder, cell, chunk), safetensors.torch.save(content, metadata={"drawn": json.dumps(facts)})
    )


def read_chunk(plan: Plan, folder: Path, chunk: Chunk) -> Drawn | None:
    """A chunk from its file, cut to its images; None where it is not there, damaged or holds fewer. UserError where it
    was drawn with other settings.
    """
    cell = plan.cells[chunk.cell]
    path = chunk_path(folder, cell, chunk)
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["drawn"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (safetensors.SafetensorError, KeyError, json.JSONDecodeError):
        return None
    if facts["fingerprint"] != cell.fingerprint:
        raise UserError(
            f"'{path.parent}' holds images of other settings (prior, sampler, spacing, guidance, seed, precision or"
            f" features; fingerprint {facts['fingerprint']}, now {cell.fingerprint}): give another --output, or remove"
            " the folder"
        )
    if facts["count"] < chunk.count:
        return None
    features = Features(tensors["features"], tensors.get("probabilities")).rows(torch.arange(chunk.count))
    return Drawn(features, tensors["pixels"][: chunk.count], facts["count"], facts["seconds"], facts["nfe"])


@contextlib.contextmanager
def _evaluations(network: nn.Module) -> Iterator[list[int]]:
    """Counts the images that the network sees, guidance and several calls a step included."""
    seen = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[0] += len(inputs[0])

    handle = network.register_forward_pre_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
