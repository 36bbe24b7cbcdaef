"""One picture turns into another one: blending into an image of another data set."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from common.build import build
from common.errors import UserError
from common.shapes import image_shape
from degradations.base import Params, Shape
from degradations.severity.alpha_bar import cosine_alpha_bar
from degradations.severity.base import DegradedBy, DeviceTable, SeverityFamily, check_steps


class Animorph(SeverityFamily):
    """D(x, t) = sqrt(ab_t) x + sqrt(1 - ab_t) z, z an image of another data set, drawn once per image; ab as in the
    Gaussian family.

    Affine in x. Nothing but z is left at t = T: ab_T is 6.1e-8 for 200 steps. Bansal et al. 2022 (2208.09392),
    animorphosis.

    Args:
        other: the data module of the other images, {class_path, init_args}, of this project's own; they have the shape
            of x.
        steps: T.
        split: which of them are drawn; the paper's are training images.

    Raises:
        UserError: where the other images are missing or of another shape, at the first draw.
    """

    linear = False

    def __init__(
        self, *, other: dict[str, Any], steps: int = 200, split: Literal["train", "validation", "test"] = "train"
    ) -> None:
        check_steps("steps", steps)
        if split not in ("train", "validation", "test"):
            raise UserError(f"split must be train, validation or test, got '{split}'")
        if not isinstance(other, dict) or "class_path" not in other:
            raise UserError(
                f"other must be a data module, {{class_path: datamodules...., init_args: {{...}}}}, got {other}"
            )
        self.other, self.severities, self.split = other, steps, split
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), cosine_alpha_bar(steps)])
        self._scale, self._share = DeviceTable(alpha_bar.sqrt()), DeviceTable((1 - alpha_bar).sqrt())
        self._images: Any = None
        self._shape: Shape | None = None
        self.description = f"blending into {str(other['class_path']).rpartition('.')[2]} (cosine), {steps} steps"

    def check(self, shape: Shape) -> None:
        """Nothing but its own shape can be said before the other images are read, which is done at the first draw."""
        if math.prod(shape) < 1:
            raise UserError(f"images must have pixels, got {list(shape)}")

    def sample(self, count: int, shape: Shape, generator: torch.Generator) -> Params:
        """other: [count, C, H, W] in [-1, 1], drawn with replacement."""
        images = self._others(shape)
        rows = torch.randint(len(images), (count,), generator=generator, device=generator.device)
        return {"other": images.get(rows.tolist()).image.to(generator.device).float() / 127.5 - 1}

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        scale, share = (table.like(x)[t].view(-1, 1, 1, 1) for table in (self._scale, self._share))
        return scale * x + share * params["other"].to(x)

    def operator(self, t: int, params: Params, shape: Shape) -> DegradedBy:
        largest = float(self._scale.values[t] + self._share.values[t])  # up to sqrt(2), where both are white
        return DegradedBy(self, t, params, shape, (-largest, largest))

    def _others(self, shape: Shape) -> Any:
        """The other images; `degradations` does not know data modules, so they are found by name and used by what they
        do.
        """
        name = self.other["class_path"]
        if self._images is None:
            module: Any = build(self.other, object, where="family.other", project_only=True)
            if not hasattr(module, "images"):
                raise UserError(f"family.other: {name} is not a data module: name one of datamodules/")
            module.prepare_data()
            images = module.images(self.split)
            if not len(images):
                raise UserError(f"family.other: {name} has no images of split '{self.split}': take another split")
            self._shape, self._images = image_shape(module.shape), images
        if self._shape != tuple(shape):
            raise UserError(
                f"family.other: {name} has images of {list(self._shape or [])}, and these are {list(shape)}: make them"
                " equal"
            )
        return self._images
