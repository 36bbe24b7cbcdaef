"""A large picture through a denoiser in tiles, so that memory does not grow with it."""

from collections.abc import Iterator
from dataclasses import fields

import torch

from common.tensor_shapes import AnyLevels, AnyTimes, Images, Sigma
from diffusion.denoiser import Condition, Denoiser, Prediction

WHOLE = 2**21  # pixels of a picture that goes through at once: 1448 x 1448


class Tiled(Denoiser):
    """The same denoiser on overlapping tiles, of which what their borders cannot have reached is kept: what it says is
    that of the whole picture, up to the rounding of sums.

    A tile begins at a multiple of `multiple`, and is seen with at least `reach` more pixels on each side that is not
    the picture's own border.

    Args:
        denoiser: one of any size with a finite `reach`; without a conditioning image.
        tile: pixels of a side that are kept of each tile, rounded up to a multiple of the denoiser's.
        whole: pictures up to so many pixels go through at once.

    Raises:
        ValueError: a denoiser that cannot be cut into tiles, options out of range.
    """

    def __init__(self, denoiser: Denoiser, *, tile: int = 1024, whole: int = WHOLE) -> None:
        super().__init__()
        if denoiser.reach is None or not denoiser.any_size or denoiser.takes_image:
            raise ValueError("only a denoiser of any size with a finite reach, that takes no image, works on tiles")
        if tile < 1 or whole < 0:
            raise ValueError(f"tile must be at least 1 and whole at least 0, got {tile} and {whole}")
        self.denoiser, self.whole = denoiser, whole
        self.any_size, self.reach, self.multiple = True, denoiser.reach, denoiser.multiple
        self.tile, self.margin = (-(-side // self.multiple) * self.multiple for side in (tile, denoiser.reach))
        self.data_shape, self.num_timesteps = denoiser.data_shape, denoiser.num_timesteps
        self.sigma_min, self.sigma_max = denoiser.sigma_min, denoiser.sigma_max
        self.learns_variance, self.takes_maps = denoiser.learns_variance, denoiser.takes_maps
        self.blind = denoiser.blind

    def level_at(self, time: AnyTimes) -> AnyLevels:
        return self.denoiser.level_at(time)

    def refused(self, least: float, most: float) -> str | None:
        return self.denoiser.refused(least, most)

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        if x.shape[2] * x.shape[3] <= self.whole:
            return self.denoiser.predict(x, sigma, condition)
        parts: dict[str, torch.Tensor] = {}
        for rows, seen_rows in self._cuts(x.shape[2]):
            for columns, seen_columns in self._cuts(x.shape[3]):
                seen = (..., seen_rows, seen_columns)
                level = sigma if sigma.ndim == 1 else sigma[seen]
                found = self.denoiser.predict(x[seen].contiguous(), level, condition)
                inside = (..., _inside(rows, seen_rows), _inside(columns, seen_columns))
                for field in fields(found):
                    value = getattr(found, field.name)
                    if value is not None:
                        whole = parts.setdefault(field.name, value.new_empty(*value.shape[:2], *x.shape[2:]))
                        whole[..., rows, columns] = value[inside]
        return Prediction(**parts)

    def _cuts(self, side: int) -> Iterator[tuple[slice, slice]]:
        """(what is kept of a tile, what it sees) along a side."""
        for start in range(0, side, self.tile):
            stop = min(start + self.tile, side)
            yield slice(start, stop), slice(max(0, start - self.margin), min(side, stop + self.margin))


def _inside(kept: slice, seen: slice) -> slice:
    return slice(kept.start - seen.start, kept.stop - seen.start)
