"""Several degradations one after the other: a blurred picture with holes."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from common.tensor_shapes import Images, Measurements
from degradations.base import SVD, Degradation, Operator, Params, Shape
from degradations.identity import IdentityOperator
from degradations.linear import pseudo_inverse
from degradations.mask import Mask


class ComposedOperator(Operator):
    """A = A_n ... A_1; A^T = A_1^T ... A_n^T; A^+ by conjugate gradients (degradations/linear.py), because the
    pseudo-inverse of a product is not the product of pseudo-inverses.

    Not linear where one of them is not; a gradient goes through it as through each. No singular value decomposition,
    except that of a single operator. threshold: the largest of theirs, at which A^+ damps small singular values.

    Args:
        operators: A_1, which sees the image, to A_n, which gives the measurement; each takes what the one before gives,
            else ValueError.
    """

    def __init__(self, operators: Sequence[Operator]) -> None:
        if not operators:
            raise ValueError("a composition needs at least one operator, got none")
        operators = [inner for o in operators for inner in (o.operators if isinstance(o, ComposedOperator) else [o])]
        for before, after in pairwise(operators):
            if tuple(before.output_shape) != tuple(after.input_shape):
                raise ValueError(
                    f"{_name(after)} takes images of {list(after.input_shape)}, and {_name(before)} gives"
                    f" {list(before.output_shape)}"
                )
        self.operators: tuple[Operator, ...] = tuple(operators)
        self.input_shape, self.output_shape = operators[0].input_shape, operators[-1].output_shape
        self.linear = all(operator.linear for operator in operators)
        self.shows_image = all(operator.shows_image for operator in operators)
        self.threshold = max(operator.threshold for operator in operators)
        self.description = ", then ".join(_name(operator) for operator in operators)

    def __call__(self, x: Images) -> Measurements:
        for operator in self.operators:
            x = operator(x)
        return x

    def smooth(self, x: Images) -> Measurements:
        for operator in self.operators:
            x = operator.smooth(x)
        return x

    def adjoint(self, y: Measurements) -> Images:
        if not self.linear:
            return super().adjoint(y)
        for operator in reversed(self.operators):
            y = operator.adjoint(y)
        return y

    def pseudo_inverse(self, y: Measurements) -> Images:
        if not self.linear:
            return super().pseudo_inverse(y)
        first, *others = self.operators
        return pseudo_inverse(self, y) if others else first.pseudo_inverse(y)

    @property
    def svd(self) -> SVD | None:
        return self.operators[0].svd if len(self.operators) == 1 else None

    @property
    def mask(self) -> Tensor | None:
        """That of the last operator, and of those before it as long as what comes after keeps pixels: a hole that is
        blurred afterwards is no hole in y.
        """
        mask: Tensor | None = None
        for operator in reversed(self.operators):
            if (kept := operator.mask) is not None:
                mask = kept if mask is None else mask * kept
            if not operator.keeps_pixels:
                break
        return mask

    @property
    def keeps_pixels(self) -> bool:
        return all(operator.keeps_pixels for operator in self.operators)

    @property
    def output_range(self) -> tuple[float, float]:
        """A bound: what the last one makes of the range of those before it; they may not reach it together."""
        low, high = self.operators[0].output_range
        for operator in self.operators[1:]:
            largest = max(abs(low), abs(high))
            # one that is not linear may answer a narrow range with its whole one
            reach = largest if operator.linear else max(1.0, largest)
            low, high = (reach * end for end in operator.output_range)
        return (low, high)

    def norm(self) -> float:
        """The product of the norms of the parts: an upper bound, reached where the largest singular vector of each is
        that of the next (blurs, averages and masks that keep something: nearly)."""
        return math.prod(operator.norm() for operator in self.operators)

    def _with(self, choose: Callable[[Tensor], Tensor]) -> "ComposedOperator":
        return ComposedOperator([operator._with(choose) for operator in self.operators])

    def to(self, device: torch.device | str) -> "ComposedOperator":
        self.operators = tuple(operator.to(device) for operator in self.operators)
        return self


class Composition(Degradation):
    """A = A_n ... A_1: the parts in the order in which they happened to the picture, with the noise after all of them.

    What the first part draws for an image (the place of a mask), it draws as it would alone, so that a mask is the same
    with and without a blur before it; each later part that draws has streams of its own, so that two masks are two.
    Parts that all keep pixels become one mask, which has a singular value decomposition; other compositions are
    inverted by conjugate gradients. In YAML: {class_path: degradations.composition.Composition, init_args: {parts:
    [{class_path: degradations.reflecting_blur.ReflectingGaussianBlur, init_args: {std: 1.5}}, {class_path:
    degradations.random_mask.RandomMask, init_args: {removed: 0.3}}]}}.

    Args:
        parts: degradations, at least one; the first is applied to the image. UserError for an empty list, and, when
            bound, where a part does not fit what the one before gives.
    """

    def __init__(self, *, parts: list[Degradation]) -> None:
        if not parts:
            raise UserError("parts must name at least one degradation, got an empty list")
        self.parts = tuple(parts)

    @property
    def draws(self) -> bool:
        return any(part.draws for part in self.parts)

    def clean_shape(self, measured: Shape) -> Shape:
        for part in reversed(self.parts):
            measured = part.clean_shape(measured)
        return measured

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        drawn: Params = {}
        drawing = [k for k, part in enumerate(self.parts) if part.draws]
        for k, part in enumerate(self.parts[: drawing[-1] + 1] if drawing else ()):
            own = part.draw(_placed(random, sum(d < k for d in drawing)), index, shape)
            drawn.update({f"{k}.{name}": value for name, value in own.items()})
            if k < drawing[-1]:
                shape = part.bind({name: value[None] for name, value in own.items()}, shape).output_shape
        return drawn

    def bind(self, params: Params, shape: Shape) -> Operator:
        operators: list[Operator] = []
        for k, part in enumerate(self.parts):
            own = {name.partition(".")[2]: v for name, v in params.items() if name.partition(".")[0] == str(k)}
            operators.append(part.bind(own, shape))
            shape = operators[-1].output_shape
        changing = [operator for operator in operators if not isinstance(operator, IdentityOperator)]
        if len(changing) < 2:
            return (changing or operators)[0]
        composed = ComposedOperator(changing)
        if composed.keeps_pixels and (mask := composed.mask) is not None:
            return Mask(mask, channels=shape[0], description=composed.description)
        return composed


class _Placed(RandomStreams):
    """The streams of the part that is the n-th to draw, n > 0, under names of its own."""

    def __init__(self, random: RandomStreams, place: int) -> None:
        super().__init__(random.seed)
        self._random, self._place = random, place

    def generator(self, stream: str, index: int, sample: int = 0) -> np.random.Generator:
        return self._random.generator(f"{stream}, part {self._place}", index, sample)


def _placed(random: RandomStreams, place: int) -> RandomStreams:
    return random if place == 0 else _Placed(random, place)


def _name(operator: Operator) -> str:
    return operator.description or type(operator).__name__
