"""Random crops of photographs, rescaled, turned and mirrored: what a denoiser of natural images is trained on."""

from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.errors import UserError
from common.random_streams import RandomStreams
from datamodules.image_folder import ImageFolder
from datamodules.pictures import to_tensor
from datamodules.read_files import read_files
from datamodules.store import ImageSet, ImageStore, everything

_MARGIN = 4  # pixels around a crop that the filter of its resizing may look at


class CropStore(ImageStore):
    """y = T(R(window of x)): a window of `size` / s pixels of a picture, resized to `size`, then one of the eight
    symmetries of the square.

    In training s is 1 with probability `native`, else uniform in `scale`; s, the place, the symmetry are drawn from
    (seed, index, epoch). Where the epoch is None it is the middle window at s = 1, as it stands. Windows that are
    resized lie anywhere, not on whole pixels.

    Args:
        pictures: uint8 pictures [C, H, W] with H, W >= size, of one or of many sizes.
        size: side of the crop in pixels.
        scale: (low, high), 0 < low <= high <= 1.
        native: share of crops that are not resized, 0..1.
        turns: quarter turns and mirroring, else none of them.
        seed: any integer.
    """

    def __init__(
        self, pictures: ImageStore, *, size: int, scale: tuple[float, float], native: float, turns: bool, seed: int
    ) -> None:
        self.pictures, self.index, self.label = pictures, pictures.index, pictures.label
        self.size, self.scale, self.native, self.turns, self._random = size, scale, native, turns, RandomStreams(seed)

    def shape(self, position: int) -> tuple[int, int, int]:
        return (self.pictures.shape(position)[0], self.size, self.size)

    def one_shape(self, positions: Tensor) -> bool:
        return True

    def name(self, position: int) -> str:
        return self.pictures.name(position)

    def read(self, positions: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        crops, kept = [], []
        for position in positions.tolist():
            picture, found = self.pictures.read(torch.tensor([position]))
            if len(found):
                crops.append(self._crop(picture[0], int(self.index[position]), epoch))
                kept.append(position)
        if not crops:
            return torch.empty(0, *self.shape(int(positions[0])), dtype=torch.uint8), positions[:0]
        return torch.stack(crops), torch.tensor(kept)

    def _crop(self, picture: Tensor, index: int, epoch: int | None) -> Tensor:
        height, width = picture.shape[1:]
        if epoch is None:
            return _window(picture, (height - self.size) // 2, (width - self.size) // 2, self.size)
        generator = self._random.generator("random crop", index, epoch)
        rescaled, share, top, left = (
            generator.random() >= self.native,
            generator.random(),
            generator.random(),
            generator.random(),
        )
        mirrored, quarters = (bool(generator.integers(2)), int(generator.integers(4))) if self.turns else (False, 0)
        low, high = max(self.scale[0], self.size / min(height, width)), self.scale[1]
        s = min(low, high) + share * max(high - low, 0) if rescaled else 1.0
        if s < 1 and self.size / s <= min(height, width):
            side = self.size / s
            crop = _resized_window(picture, top * (height - side), left * (width - side), side, self.size)
        else:
            crop = _window(picture, int(top * (height - self.size + 1)), int(left * (width - self.size + 1)), self.size)
        return torch.rot90(crop.flip(-1) if mirrored else crop, quarters, (1, 2)).contiguous()


class RandomCrops(ImageFolder):
    """Squares of `size` pixels from the pictures of a folder, another one of each picture in every epoch: see
    :class:`CropStore`.

    Validation and test images are the middle squares, at native resolution and upright. An epoch is as long as there
    are pictures.

    Args:
        folder: absolute, or relative to the current folder, or else to `data_dir`; pictures smaller than `size` are
            enlarged to it.
        size: side of the squares in pixels (default 64).
        scale: pictures are reduced by a factor that is uniform between these two, 0 < low <= high <= 1.
        native: share of the crops, 0..1, that are not reduced at all, so that pixels of the originals are seen as they
            are.
        turns: one of the eight symmetries of the square for every crop; false: upright.
        mode: "colour" (default), "grey", or "auto": grey where all files are.

    Raises:
        UserError: options out of range.
    """

    def __init__(
        self,
        *,
        folder: str,
        size: int = 64,
        scale: tuple[float, float] = (0.7, 1.0),
        native: float = 0.5,
        turns: bool = True,
        mode: Literal["grey", "colour", "auto"] = "colour",
        **options,
    ) -> None:
        super().__init__(folder=folder, size=size, crop="random", resize=0, mode=mode, **options)
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f"scale must be two numbers with 0 < low <= high <= 1, got {list(scale)}")
        if not 0 <= native <= 1:
            raise UserError(f"native must be a share in 0..1, got {native}")
        self.side, self.scale, self.native, self.turns = size, (scale[0], scale[1]), native, turns

    def _read(self, part: str) -> ImageSet:
        if part not in self._stores:
            pictures = read_files(
                self._listed(part),
                mode=self._mode(),
                fit=self._fit,
                memory_limit_mb=self.memory_limit_mb,
                strict=self.strict,
            )
            self._stores[part] = CropStore(
                pictures, size=self.side, scale=self.scale, native=self.native, turns=self.turns, seed=self.seed
            )
        return everything(self._stores[part])


def _window(picture: Tensor, top: int, left: int, side: int) -> Tensor:
    return picture[:, top : top + side, left : left + side]


def _resized_window(picture: Tensor, top: float, left: float, side: float, size: int) -> Tensor:
    """The window of `side` pixels at (top, left), not whole numbers, as [C, size, size]: bicubic with the support
    scaled by the reduction.
    """
    reach = _MARGIN * side / size
    above, before = max(0, int(top - reach)), max(0, int(left - reach))
    near = picture[:, above : int(top + side + reach) + 2, before : int(left + side + reach) + 2].permute(1, 2, 0)
    pixels = np.ascontiguousarray(near.numpy() if near.shape[2] == 3 else near[..., 0].numpy())
    box = (left - before, top - above, left - before + side, top - above + side)
    return to_tensor(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box))
