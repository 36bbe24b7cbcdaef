"""How much noise is in a person's own picture, and what is said about it."""

from torch import Tensor

from common.errors import UserError
from degradations.base import Operator
from restoration.stopping.noise_level import sigma_of_picture

_LEAST = 0.05  # grey levels: what is said as 0.0 is none, and not the rounding of a flat picture


def user_noise(
    image: Tensor, known: Tensor | None, operator: Operator, given: float | None
) -> tuple[float, str | None]:
    """(standard deviation of the noise in grey levels, what to say about it): the given one, or an estimate from the
    known pixels of image [C, H, W].

    None is assumed, unless given, in a picture that was made smaller: its own detail is as fine as noise (a butterfly
    that bicubic downsampling made four times smaller looks like 11 of 255). UserError for a given level that is
    negative or not finite.
    """
    if given is not None:
        if not 0 <= given < float("inf"):
            raise UserError(f"--sigma_255 must be finite and at least 0, got {given}")
        return given, None
    found = estimated_sigma_255(image, known)
    found = found if found >= _LEAST else 0.0
    if operator.output_shape[1:] != operator.input_shape[1:]:
        return (
            0.0,
            (
                f"noise: --sigma_255 is not given, none is assumed: what looks like {found:.1f} of 255 may be the"
                " detail of a small picture"
            ),
        )
    return (
        found,
        (
            f"noise: --sigma_255 is not given, estimated at {found:.1f} of 255 (--sigma_255 S sets it, --sigma_255 0"
            " means none)"
        ),
    )


def estimated_sigma_255(image: Tensor, known: Tensor | None = None) -> float:
    """:func:`restoration.stopping.noise_level.sigma_of_picture` in grey levels: image [C, H, W] in [-1, 1]; known [1,
    1, H, W], 1 or 0, None for all.
    """
    return 127.5 * sigma_of_picture(image, None if known is None else known[0])
