"""What a training is going to cost: its steps and images, and the core seconds that a few timed images lead to."""

import time
from typing import Any

from datamodules.base import ImageDataModule
from lightning_modules.base import TrainedModule

ENOUGH = 0.5  # core seconds of a timed batch


def cost_in_words(model: Any, data: Any, trainer: Any) -> str:
    """Steps and images that the options ask for; of a network that is trained also the core hours, from the time that
    loss and gradients of a few images take on this machine, in float32, without optimiser, validation and grids.
    """
    steps = trainer.max_steps
    if not (isinstance(model, TrainedModule) and isinstance(data, ImageDataModule)):
        return f"{steps:,} steps" if steps > 0 else "as long as it is not stopped"
    each = core_seconds(model, data)
    pace = f"{1000 * each:.3g} ms of a core an image here, in float32"
    if steps <= 0:
        return f"{pace}; trainer.max_steps does not say how many"
    batch = data.batch_size * trainer.accumulate_grad_batches
    images = steps * batch
    return f"{steps:,} steps of {batch} images, {images:,} in all; {pace}: about {hours(images * each)}"


def hours(core_seconds: float) -> str:
    """In the unit that a person plans with."""
    if core_seconds < 5400:
        return f"{max(1, round(core_seconds / 60))} core minutes"
    return f"{core_seconds / 3600:,.{0 if core_seconds >= 36000 else 1}f} core hours"


def core_seconds(model: TrainedModule, data: ImageDataModule) -> float:
    """Core seconds of the loss of one image and its gradients: 2 images, then twice as many, until a batch takes
    :data:`ENOUGH`; the last one counts. Weights, clock and random numbers of the run stay as they are.
    """
    images = data.images("train")
    count = 2  # batch normalisation refuses one
    with model.again(0):
        while True:
            batch = data.on_after_batch_transfer(images.get(list(range(min(count, len(images))))), 0)
            begin = time.process_time()
            model.repeat(batch).backward()
            took = time.process_time() - begin
            model.zero_grad(set_to_none=True)
            if took > ENOUGH or count >= min(data.batch_size, len(images)):
                return took / len(batch.image)
            count = min(2 * count, data.batch_size)
