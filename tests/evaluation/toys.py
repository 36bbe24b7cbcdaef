"""Small stand-ins: methods that are quick, slow, wrong, refusing or oracular, so that the engine is tested without the
real ones.
"""

import os
import signal
import time
import warnings

import torch

from common.image_range import to_float
from datamodules.base import ImageDataModule
from datamodules.store import ImageSet, MemoryStore, everything
from degradations.measurement import Measurement
from metrics.features import FeatureNetwork, Features
from restoration.base import Cost, Method, Restoration, Unsupported


class Back(Method):
    """x = A^T y, after `seconds` of sleep per image. The variable TOY_KILL_AT names an image at which the own process
    ends, the hard way.
    """

    deterministic = True

    def __init__(self, *, gain: float = 1.0, seconds: float = 0.0) -> None:
        self.gain, self.seconds = gain, seconds

    def calls(self) -> Cost:
        return Cost()

    def restore(self, measurement: Measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        if os.environ.get("TOY_KILL_AT") in map(str, measurement.index):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds * len(measurement.index))
        return Restoration(samples=(self.gain * measurement.operator.adjoint(measurement.y))[:, None])


class Dither(Method):
    """x = A^T y + scale * noise, one noise per (image, sample)."""

    def __init__(self, *, scale: float = 0.2) -> None:
        self.scale = scale

    def calls(self) -> Cost:
        return Cost(nfe=2)

    def restore(self, measurement: Measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        assert measurement.truth is None
        x = measurement.operator.adjoint(measurement.y)
        index = measurement.repeat(num_samples).index
        noise = random.normal_batch("dither", index, [*range(num_samples)] * len(x), x.shape[1:], x.device)
        if on_step is not None:
            on_step(0, 1, x)
        return Restoration(
            samples=x[:, None] + self.scale * noise.unflatten(0, (len(x), num_samples)), cost=Cost(nfe=2)
        )


class Large(Dither):
    """Dither on a device that has memory for `room` images at once. `asked`: how many it was asked for, by turns."""

    asked: list[int] = []

    def __init__(self, *, room: int) -> None:
        super().__init__()
        self.room = room

    def restore(self, measurement: Measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        self.asked.append(len(measurement.index) * num_samples)
        if self.asked[-1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().restore(measurement, num_samples=num_samples, random=random, on_step=on_step)


class Oracle(Back):
    """The truth itself."""

    uses_truth = True

    def restore(self, measurement: Measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        return Restoration(samples=measurement.truth[:, None])


class NotFinite(Back):
    """NaN in the second image of a batch."""

    def restore(self, measurement: Measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        x = measurement.y.clone()
        x[1] = torch.nan
        return Restoration(samples=x[:, None])


class Wordy(Back):
    """Has a word to say each time."""

    def restore(self, measurement: Measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        warnings.warn("a word\nto say", stacklevel=2)
        return super().restore(measurement, num_samples=num_samples, random=random, on_step=on_step)


class Refusing(Back):
    """Can do nothing."""

    def check(self, operator, noise) -> None:
        raise Unsupported("it needs an operator with four legs")


class OnePass(Method):
    """x = the prior's estimate from y at sigma = 0.5, one network call."""

    needs_prior = True
    deterministic = True

    def __init__(self, *, prior) -> None:
        self.prior = prior

    def calls(self) -> Cost:
        return Cost(nfe=1)

    @torch.no_grad()
    def restore(self, measurement: Measurement, *, num_samples=1, random, on_step=None) -> Restoration:
        x = measurement.operator.adjoint(measurement.y)
        return Restoration(samples=self.prior.predict(x, torch.full((len(x),), 0.5)).x0[:, None], cost=Cost(nfe=1))


class Colours(ImageDataModule):
    """Four random colour images of 24x32 pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, 24, 32)

    def _training_images(self) -> ImageSet:
        return self._test_images()

    def _test_images(self) -> ImageSet:
        generator = torch.Generator().manual_seed(0)
        return everything(MemoryStore(torch.randint(0, 256, (4, *self.shape), dtype=torch.uint8, generator=generator)))


class Colour8(Colours):
    """Four random colour images of 8x8 pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, 8, 8)


class Colour32(Colours):
    """Four random colour images of 32x32 pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, 32, 32)


class Colour64(Colours):
    """Four random colour images of 64x64 pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, 64, 64)


class Grey28(Colours):
    """Four random grey images of 28x28 pixels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, 28, 28)


class Corners(FeatureNetwork):
    """Four pixels of an image: features without a network."""

    name, fingerprint, dimension = "corners", "none", 4

    def check(self, shape):
        pass

    def to(self, device):
        return self

    def of(self, images):
        return Features(to_float(images)[:, 0, 2:6:3, 2:6:3].flatten(1))
