"""What a method made of training images, computed once and kept: a deep image prior takes seconds an image and is never
fitted inside a training step.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from common.build import build, check_options, describe, find_class, plain
from common.errors import UserError
from common.files import write_atomically
from common.image_range import to_float
from common.random_streams import RandomStreams
from common.renamed import modernised
from common.shapes import image_shape
from degradations.base import Degradation
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise, Noise
from diffusion.schedules import Schedule
from restoration.base import Method

AT_ONCE = 64  # images between two writes of the file


@dataclass(frozen=True)
class ConditioningImages:
    """What the bank holds of B images: image float32 [B, C, H, W] in [-1, 1]; for a bank of diffused images the
    training time int64 [B] and the standard normal noise [B, C, H, W] that they were diffused with, else None.
    """

    image: Tensor
    time: Tensor | None = None
    noise: Tensor | None = None


class ConditioningBank:
    """g = method(A x + n) for every image x of a training set, or, with a schedule, g = method(a_t x + b_t eps) at one
    time t that is uniform over the images.

    Args:
        path: the file, float16.
        method: {class_path, init_args} of a restoration.base.Method without a prior, such as restoration.dip.DIP; the
            measurement itself is restoration.degraded.Degraded.
        degradation: what happened to x; null: nothing but noise.
        noise: white Gaussian noise of the measurement, whose sigma is what the method is told.
        schedule: diffuses x instead of them.
        seed: of all of it; what belongs to image i is keyed by (seed, i).
        batch_size: images that the method is given together. Files say what they were made with, and one that was made
            with other options is refused.
    """

    def __init__(
        self,
        *,
        path: str,
        method: dict | str,
        degradation: dict | str | None = None,
        noise: dict | None = None,
        schedule: dict | str | None = None,
        seed: int = 0,
        batch_size: int = AT_ONCE,
    ) -> None:
        if schedule is not None and (degradation is not None or noise is not None):
            raise UserError(
                "bank.schedule diffuses the images, which is all that happens to them: leave degradation and noise out"
            )
        if batch_size < 1:
            raise UserError(f"bank.batch_size must be at least 1, got {batch_size}")
        self.path, self.batch_size = Path(path), batch_size
        self.method = build(method, Method, where="bank.method")
        if self.method.uses_truth:
            raise UserError("bank.method reads the truth, which no method has when the prior is used: take another one")
        self.schedule = None if schedule is None else build(schedule, Schedule, where="bank.schedule")
        self.degradation = build(degradation or "degradations.identity.Identity", Degradation, where="bank.degradation")
        self.noise = build(
            {"class_path": "degradations.noise.GaussianNoise", "init_args": dict(noise or {"sigma": 0.0})},
            Noise,
            where="bank.noise",
        )
        self.random = RandomStreams(seed)
        specs = {"method": method, "degradation": degradation, "schedule": schedule}
        self.options = {name: _written_out(spec, _BASES[name]) for name, spec in specs.items()} | {
            "noise": noise,
            "seed": seed,
        }
        self._rows: dict[int, int] = {}
        self._loaded = False
        self._images = torch.empty(0)

    def conditioning_images(self, index: Tensor, device: torch.device | str = "cpu") -> ConditioningImages:
        """Of the images with these indices; UserError that says how to compute what is missing."""
        self._load()
        rows = []
        for i in index.tolist():
            if i not in self._rows:
                raise UserError(
                    f"the bank '{self.path}' has nothing of image {i}: compute it with python -m studies.dip_bank"
                    " --config CONFIG"
                )
            rows.append(self._rows[i])
        image = self._images[rows].float().to(device)
        if self.schedule is None:
            return ConditioningImages(image)
        time, noise = self.diffusion(index.tolist(), tuple(image.shape[1:]))
        return ConditioningImages(image, time.to(device), noise.to(device))

    def diffusion(self, index: list[int], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The time int64 [B] and noise [B, *shape] of these images of a bank with a schedule."""
        assert self.schedule is not None
        zeros = [0] * len(index)
        u = torch.stack([self.random.uniform("guide bank time", i, 0, (1,)) for i in index])[:, 0]
        return (u * len(self.schedule)).long(), self.random.normal_batch("guide bank noise", index, zeros, shape)

    def measurement(self, x: Tensor, index: list[int]) -> Measurement:
        """What the method is given of images x [B, C, H, W] in [-1, 1]."""
        if self.schedule is None:
            return measure(x, degradation=self.degradation, noise=self.noise, index=index, random=self.random)
        time, noise = self.diffusion(index, tuple(x.shape[1:]))
        alpha_bar = self.schedule.alpha_bar_of(time).view(-1, 1, 1, 1)
        y = (alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * noise).float()
        # of all times, so that what is asked does not depend on the batch
        sigma = float((1 - self.schedule.alphas_bar).mean().sqrt())
        nothing = IdentityOperator(image_shape(x.shape[1:]))
        return Measurement(y=y, operator=nothing, noise=GaussianNoise(sigma=sigma), index=tuple(index))

    def compute(
        self,
        read: Callable[[list[int]], tuple[Tensor, Tensor]],
        rows: int,
        on_part: Callable[[int, int], None] | None = None,
    ) -> float:
        """Compute and store what is missing of rows 0 .. rows - 1 of a set; the processor's seconds of this call. Goes
        on where an earlier call was stopped.

        read(rows): their pixels uint8 [B, C, H, W] and indices int64 [B]. on_part(done, rows) after each part, when it
        is on the disk.
        """
        self._load(missing=True)
        begun, seconds = time.process_time(), self._seconds
        for first in range(0, rows, self.batch_size):
            pixels, index = read(list(range(first, min(first + self.batch_size, rows))))
            left = [k for k, i in enumerate(index.tolist()) if i not in self._rows]
            if left:
                measurement = self.measurement(to_float(pixels[left]), [int(index[k]) for k in left])
                self.method.check(measurement.operator, measurement.noise)
                found = (
                    self.method.restore(measurement.without_truth(), random=self.random)
                    .samples[:, 0]
                    .clamp(-1, 1)
                    .half()
                    .cpu()
                )
                for k, i in enumerate(measurement.index):
                    self._rows[i] = len(self._images) + k
                self._images = torch.cat([self._images, found]) if len(self._images) else found
                self._seconds = seconds + time.process_time() - begun
                self._write()
            if on_part is not None:
                on_part(min(first + self.batch_size, rows), rows)
        return time.process_time() - begun

    @property
    def seconds(self) -> float:
        """What the whole file took to compute, in seconds of the processor, over all calls."""
        self._load()
        return self._seconds

    @property
    def seconds_per_image(self) -> float:
        """:attr:`seconds` over the images that are in the file."""
        return self.seconds / max(1, len(self._rows))

    def _write(self) -> None:
        index = torch.tensor(list(self._rows), dtype=torch.int64)
        made = {"options": json.dumps(self.options, sort_keys=True), "seconds": f"{self._seconds:.6g}"}
        write_atomically(
            self.path, safetensors.torch.save({"index": index, "guide": self._images.contiguous()}, metadata=made)
        )

    def _load(self, missing: bool = False) -> None:
        if self._loaded:
            return
        if not self.path.is_file():
            if not missing:
                raise UserError(
                    f"there is no bank at '{self.path}': compute it with python -m studies.dip_bank --config CONFIG"
                )
            self._seconds, self._loaded = 0.0, True
            return
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                made = file.metadata() or {}
                index, images = file.get_tensor("index"), file.get_tensor("guide")
            options, seconds = modernised(json.loads(made["options"]), warn=False), float(made["seconds"])
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise UserError(
                f"'{self.path}' cannot be read: it is damaged or no bank of conditioning images; remove it and compute"
                " it again"
            ) from error
        for name, value in self.options.items():
            if _of_now(options.get(name), _BASES.get(name)) != json.loads(json.dumps(value)):
                raise UserError(
                    f"the bank '{self.path}' was made with another {name} ({options.get(name)}, now {value}): give"
                    " another path, or remove it"
                )
        self._rows, self._images = {int(i): k for k, i in enumerate(index.tolist())}, images
        self._seconds, self._loaded = seconds, True


_BASES = {"method": Method, "degradation": Degradation, "schedule": Schedule}


def _of_now(stored: Any, base: type | None) -> Any:
    """A stored specification with what has become an option since then at its default; as it is where it is none, or
    no longer understood.
    """
    if base is None:
        return stored
    try:
        return json.loads(json.dumps(_written_out(stored, base)))
    except UserError:
        return stored


def _written_out(spec: dict[str, Any] | str | None, base: type) -> dict[str, Any] | None:
    """A specification with all defaults filled in, so that two that mean the same are equal; nested objects may have
    been built already.
    """
    if spec is None:
        return None
    spec = {"class_path": spec} if isinstance(spec, str) else spec
    found = find_class(spec["class_path"], base, where="bank")
    return plain(describe(found, check_options(found, spec.get("init_args") or {}, where="bank")))
