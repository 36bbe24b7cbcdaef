"""What a method takes from the operator and from the noise: one table, and one place where it is refused in words."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch

from degradations.base import Operator
from degradations.noise import Noise


@dataclass(frozen=True)
class Need:
    """One line of the table: what is needed, and how its absence is said.

    Args:
        what: what the method needs, as it stands in "ddrm needs ...".
        absent: how its absence is said of the operator or the noise, as in "... and Cubed is not linear".
        met: whether an operator and a noise have it.
        of_noise: whether it is asked of the noise rather than of the operator.
    """

    what: str
    absent: str
    met: Callable[[Operator, Noise], bool]
    of_noise: bool = False


def differentiable(operator: Operator) -> bool:
    """Whether a gradient goes through A."""
    if operator.linear:
        return True
    with torch.enable_grad():
        x = torch.zeros(1, *operator.input_shape, requires_grad=True)
        try:
            return operator(x).requires_grad
        except ValueError:  # it holds the parameters of several images, and was checked when it was made
            return True


#: What `Method.needs` may name, in the order in which it is asked.
NEEDS: dict[str, Need] = {
    "linear": Need("a linear operator", "is not linear", lambda operator, noise: operator.linear),
    "proximal": Need(
        "a linear operator, for its proximal step", "is not linear", lambda operator, noise: operator.linear
    ),
    "gradient": Need("an operator with gradients", "has none", lambda operator, noise: differentiable(operator)),
    "svd": Need(
        "the singular value decomposition of the operator",
        "has none",
        lambda operator, noise: operator.svd is not None,
    ),
    "mask": Need(
        "an operator that keeps single pixels, a mask", "is none", lambda operator, noise: operator.keeps_pixels
    ),
    "white_noise": Need(
        "white noise of one level", "is not white", lambda operator, noise: noise.is_white, of_noise=True
    ),
    "likelihood": Need(
        "noise above 0, for its likelihood", "is 0", lambda operator, noise: noise.sigma > 0, of_noise=True
    ),
}


def unmet(
    needs: Iterable[str], operator: Operator, noise: Noise, *, reasons: Mapping[str, str] | None = None
) -> str | None:
    """The first need that this operator and noise do not meet, as the end of a sentence: "a linear operator, and Cubed
    is not linear"; None where all are met.

    Args:
        needs: names of :data:`NEEDS`; ValueError for another one.
        operator: A.
        noise: its law.
        reasons: by name of a need, what the method takes it for, instead of the table's words.
    """
    unknown = sorted(set(needs) - set(NEEDS))
    if unknown:
        raise ValueError(f"a method needs '{unknown[0]}', which is none of {', '.join(NEEDS)}")
    for name, need in NEEDS.items():
        if name in needs and not need.met(operator, noise):
            subject = repr(noise) if need.of_noise else operator.description or type(operator).__name__
            return f"{(reasons or {}).get(name, need.what)}, and {subject} {need.absent}"
    return None
