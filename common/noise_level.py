"""Which levels of noise a picture can be restored from, said in one place; imports nothing heavy."""

from common.errors import UserError

LOUDEST = 255  # standard deviation of noise in grey levels: with more, nothing of a picture is left to restore


def refuse_loud(sigma_255: float, name: str) -> None:
    """UserError, which calls the level `name`, where it is below 0, above LOUDEST or not a number."""
    if not 0 <= sigma_255 <= LOUDEST:
        raise UserError(
            f"{name} must be finite, at least 0 and at most {LOUDEST}, got {sigma_255:g}: it is in grey levels, of"
            " which a picture has 256"
        )
