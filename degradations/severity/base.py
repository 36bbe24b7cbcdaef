"""A family of degradations by severity, D(x, t) with D(x, 0) = x: what cold diffusion learns to undo."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from common.build import Recorded
from common.errors import UserError
from common.random_streams import RandomStreams
from common.shapes import image_shape
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Operator, Params, Shape


class SeverityFamily(Recorded, ABC):
    """D(x, t) for images x [B, C, H, W] in [-1, 1] and one severity t in 0..T per image; D(x, 0) = x. Its cost does not
    depend on t.

    What is random (place of a mask, snow, noise) is drawn once per image and is the same for every t: ``params``,
    tensors [B, ...] by name. Bansal et al. 2022 (2208.09392).
    """

    #: T, the largest severity.
    severities: int
    #: Whether D(x, t) is linear in x for fixed t and params.
    linear: bool = True
    #: What a person calls it, with its numbers: "Gaussian blur (circular), 20 steps".
    description: str = ""

    @property
    def draws(self) -> bool:
        """Whether D has random parameters, which nobody knows of a picture that was degraded elsewhere."""
        return type(self).sample is not SeverityFamily.sample

    @abstractmethod
    def check(self, shape: Shape) -> None:
        """UserError where images of shape (C, H, W) cannot be degraded: smaller than a kernel, grey where colour is
        needed.
        """

    def sample(self, count: int, shape: Shape, generator: torch.Generator) -> Params:
        """The random parameters of `count` images of shape (C, H, W), tensors [count, ...] on the generator's device;
        none unless a leaf draws some.

        Image k of `count` + 1 images is not image k of `count`: training draws for the batches of all processes and
        slices.
        """
        del count, shape, generator
        return {}

    @abstractmethod
    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        """D(x, t): t int64 [B] in 0..T on the device of x. The dtype of x, and no autocast; no loop over t or over
        images.
        """

    @abstractmethod
    def operator(self, t: int, params: Params, shape: Shape) -> Operator:
        """x -> D(x, t) as an operator for one severity, with adjoint, pseudo-inverse and SVD where it is linear."""

    # What all families share.

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        """The parameters of image `index`, keyed by (seed, index) alone."""
        seed = int(random.generator(f"severity {type(self).__name__}", index).integers(2**62))
        drawn = self.sample(1, shape, torch.Generator().manual_seed(seed))
        return {name: value[0] for name, value in drawn.items()}

    def draw_batch(
        self, random: RandomStreams, index: Sequence[int], shape: Shape, device: torch.device | str = "cpu"
    ) -> Params:
        """The parameters of a batch of images with these indices."""
        return stack([self.draw(random, int(i), shape) for i in index], device)

    def __call__(self, x: Tensor, t: Tensor | int, params: Params | None = None) -> Tensor:
        """D(x, t): t one number, or int64 [B]. UserError for an impossible shape, ValueError for a t outside 0..T."""
        self.check(image_shape(x.shape[1:]))
        t = torch.full((len(x),), t, dtype=torch.int64, device=x.device) if isinstance(t, int) else t
        if t.shape != x.shape[:1] or t.dtype.is_floating_point:
            raise ValueError(f"t must be whole numbers [{len(x)}], got {list(t.shape)} of {t.dtype}")
        # elsewhere a look would wait for the device
        if t.device.type == "cpu" and len(t) and (int(t.min()) < 0 or int(t.max()) > self.severities):
            raise ValueError(f"t must lie in 0..{self.severities}, got {int(t.min())}..{int(t.max())}")
        with torch.autocast(x.device.type, enabled=False):
            return self.degrade(x, t, params or {})

    def at(self, t: int, params: Params, shape: Shape) -> "SeverityOperator":
        """D(., t) as the operator of a measurement; UserError for a t outside 0..T or an impossible shape."""
        self.check(shape)
        if not 0 <= t <= self.severities:
            raise UserError(f"severity must lie in 0..{self.severities} for {self.description}, got {t}")
        return SeverityOperator(self, t, params, self.operator(t, params, shape))

    def same_as(self, other: "SeverityFamily") -> bool:
        """Whether two families are one: of one class, with the same constants, whether they were given or taken from a
        data set's name.
        """

        def constants(family: SeverityFamily) -> dict[str, Any]:
            return {name: value for name, value in vars(family).items() if not name.startswith("_")}

        return type(self) is type(other) and constants(self) == constants(other)


class SeverityOperator(Operator):
    """An operator that knows which family and severity it is of, so that a cold restorer can be asked to undo it."""

    def __init__(self, family: SeverityFamily, severity: int, params: Params, operator: Operator) -> None:
        self.family, self.severity, self.params, self.inner = family, severity, params, operator
        self.input_shape, self.output_shape = operator.input_shape, operator.output_shape
        self.linear, self.threshold = operator.linear, operator.threshold
        self.description = f"{family.description}, severity {severity}"

    def __call__(self, x: Images) -> Measurements:
        return self.inner(x)

    def adjoint(self, y: Measurements) -> Images:
        return self.inner.adjoint(y)

    def pseudo_inverse(self, y: Measurements) -> Images:
        return self.inner.pseudo_inverse(y)

    @property
    def svd(self) -> SVD | None:
        return self.inner.svd

    @property
    def mask(self) -> Tensor | None:
        return self.inner.mask

    @property
    def keeps_pixels(self) -> bool:
        return self.inner.keeps_pixels

    @property
    def output_range(self) -> tuple[float, float]:
        return self.inner.output_range

    def norm(self) -> float:
        return self.inner.norm()

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "SeverityOperator":
        params = {name: choose(value) for name, value in self.params.items()}
        return SeverityOperator(self.family, self.severity, params, self.inner._with(choose))

    def to(self, device: torch.device | str) -> "SeverityOperator":
        self.params = {name: value.to(device) for name, value in self.params.items()}
        self.inner = self.inner.to(device)
        return self


class DegradedBy(Operator):
    """x -> D(x, t) of a family that is not linear: nothing but the call, and the range of what it gives."""

    linear = False

    def __init__(
        self,
        family: SeverityFamily,
        t: int,
        params: Params,
        shape: Shape,
        output_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        self._family, self._t, self._params, self._range = family, t, params, output_range
        self.input_shape = self.output_shape = image_shape(shape)
        self.description = family.description

    def __call__(self, x: Images) -> Measurements:
        for name, value in self._params.items():
            if len(value) != len(x):
                raise ValueError(
                    f"this operator holds '{name}' of {len(value)} images, got {len(x)} images; for several samples per"
                    " image use repeat"
                )
        return self._family(x, self._t, self._params)

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "DegradedBy":
        params = {name: choose(value) for name, value in self._params.items()}
        return DegradedBy(self._family, self._t, params, self.input_shape, self._range)

    @property
    def output_range(self) -> tuple[float, float]:
        return self._range

    def to(self, device: torch.device | str) -> "DegradedBy":
        self._params = {name: value.to(device) for name, value in self._params.items()}
        return self


def stack(drawn: Sequence[Params], device: torch.device | str = "cpu") -> Params:
    """Parameters of several images as those of a batch."""
    return {name: torch.stack([d[name] for d in drawn]).to(device) for name in (drawn[0] if drawn else {})}


class DeviceTable:
    """A float64 tensor by severity that is made once and kept on each device and in each dtype that asks for it."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self._copies: dict[Any, Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The table on the device and in the dtype of x."""
        key = (x.device, x.dtype)
        if key not in self._copies:
            self._copies[key] = self.values.to(x)
        return self._copies[key]


def check_steps(name: str, value: int, least: int = 1) -> None:
    """UserError where a number of steps, pixels or taps is not a whole number of at least `least`."""
    if isinstance(value, bool) or value != int(value) or value < least:
        raise UserError(f"{name} must be a whole number of at least {least}, got {value}")
