"""One's own picture, or a folder of them, to be restored: damaged already, or clean and then damaged, so that the truth
is known.
"""

import os
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from common.picture_files import Picture, read_picture
from common.shapes import image_shape
from datamodules.pictures import list_pictures
from datamodules.restoration_data import Item, RestorationData
from degradations.given_mask import check_size, read_mask

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


class UserImages(RestorationData):
    """A picture file, or all in a folder and below it, of 8 or 16 bits or floating point; pixels that are fully
    transparent are missing.

    Args:
        path: of the file or folder: absolute, or relative to the current folder, or else to `data_dir`.
        degraded: the pictures are damaged already, degradation and noise say how; false: they are clean, and are
            damaged by degradation and noise.
        mask: white = known, black = missing, a file for all or a folder with a file of the same name for each picture.
        truth: of degraded pictures, as mask; for the logged PSNR, and for oracles.
        mode: "auto" as the files are. Of clean pictures:.
        size: the shorter side is resized to it.
        crop: the middle square of so many pixels.
        multiple: sides are cut to multiples of it, evenly.
        data_dir: null for DATA_DIR, or ``data``.

    Raises:
        UserError: where a file is missing or does not fit.
    """

    def __init__(
        self,
        *,
        path: str,
        degraded: bool = False,
        mask: str | None = None,
        truth: str | None = None,
        mode: Literal["grey", "colour", "auto"] = "auto",
        size: int | None = None,
        crop: int | None = None,
        multiple: int = 1,
        data_dir: str | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        if mode not in ("grey", "colour", "auto"):
            raise UserError(f"mode must be grey, colour or auto, got '{mode}'")
        if (size is not None and size < 1) or (crop is not None and crop < 1) or multiple < 1:
            raise UserError(f"size, crop and multiple must be at least 1, got {size}, {crop} and {multiple}")
        if degraded and (size is not None or crop is not None or multiple > 1):
            raise UserError(
                "size, crop and multiple are for clean pictures, and degraded is true: resizing would change "
                "the noise that is to be removed"
            )
        if truth is not None and not degraded:
            raise UserError(
                "truth is given, and degraded is false, so that the pictures are the truth: set degraded to "
                "true, or leave truth out"
            )
        if mask is not None and self.degradation is not None:
            raise UserError("mask and degradation are both given: give one of them")
        self.path, self.degraded, self.mask, self.truth, self.mode = path, degraded, mask, truth, mode
        self.size, self.crop, self.multiple = size, crop, multiple
        self.data_dir = Path(data_dir or os.environ.get("DATA_DIR") or "data")

    def _read(self) -> list[Item]:
        root = self._found(self.path, "path")
        relative = [Path(root.name)]
        if root.is_dir():
            listing = list_pictures(root)
            relative, remark = listing.pictures, listing.remark(root)
            if remark is not None:
                rank_zero_info(remark)
        folder = root if root.is_dir() else root.parent
        if not relative:
            raise UserError(
                f"folder '{root}' has no pictures in it: put some there (.png, .jpg, .tif ...), or give another path"
            )
        items = [self._item(folder, name, index) for index, name in enumerate(_unique(relative[: self.limit]).items())]
        if self.mask is not None and all(item.known is None or bool(item.known.all()) for item in items):
            raise UserError(
                f"data.mask: the masks in '{self.mask}' leave nothing out, 0 % of the pixels are missing: paint known"
                " pixels white (255) and missing ones black (0)"
            )
        return items

    def _item(self, folder: Path, named: tuple[str, Path], index: int) -> Item:
        name, relative = named
        picture = read_picture(folder / relative)
        known = picture.visible
        if self.mask is not None:
            path = self._beside(self.mask, "mask", relative)
            # in a folder of masks some pictures may be whole
            mask = read_mask(path, may_keep_all=self._found(self.mask, "mask").is_dir())
            check_size(mask, path, image_shape(picture.image.shape))
            given = mask[None] > 0
            known = given if known is None else known & given
        image = self._fitted(self._coloured(picture).image)
        if known is not None:
            known = self._fitted(known.float()) > 1 - 1e-5
            if not bool(known.any()):
                raise UserError(
                    f"no pixel of '{folder / relative}' is known, all are missing or transparent: give a mask with "
                    f"known pixels (white)"
                )
        truth = None
        if self.truth is not None:
            truth = self._coloured(read_picture(self._beside(self.truth, "truth", relative)), len(image)).image
        return Item(name=name, index=index, image=image, known=known, truth=truth)

    def _coloured(self, picture: Picture, channels: int | None = None) -> Picture:
        image = picture.image
        wanted = channels or {"grey": 1, "colour": 3, "auto": len(image)}[self.mode]
        if wanted == 1 and len(image) == 3:
            image = (image * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)
        return Picture(image=image.expand(wanted, -1, -1).contiguous(), alpha=picture.alpha, bits=picture.bits)

    def _fitted(self, x: Tensor) -> Tensor:
        """[C, H, W] resized, and the middle cut out."""
        if self.size is not None and min(x.shape[1:]) != self.size:
            scale = self.size / min(x.shape[1:])
            sides = [max(self.size, round(side * scale)) for side in x.shape[1:]]
            x = F.interpolate(x[None], size=sides, mode="bicubic", antialias=True, align_corners=False)[0].clamp(-1, 1)
        sides = [min(side, self.crop or side) // self.multiple * self.multiple for side in x.shape[1:]]
        if min(sides) < 1 or (self.crop is not None and min(x.shape[1:]) < self.crop):
            size = f"{x.shape[2]}x{x.shape[1]} pixels (width x height)"
            raise UserError(f"a picture has {size}, and crop is {self.crop} and multiple {self.multiple}: lower them")
        top, left = ((have - want) // 2 for have, want in zip(x.shape[1:], sides, strict=True))
        return x[:, top : top + sides[0], left : left + sides[1]].contiguous()

    def _found(self, path: str, option: str) -> Path:
        given = Path(path).expanduser()
        places = [given] if given.is_absolute() else [given, self.data_dir / given]
        for place in places:
            if place.exists():
                return place
        where = " and ".join(f"'{p}'" for p in places)
        raise UserError(
            f"data.{option}: there is no file or folder at {where}: give the path of a picture, or set "
            f"DATA_DIR to the folder that holds it"
        )

    def _beside(self, path: str, option: str, relative: Path) -> Path:
        found = self._found(path, option)
        if not found.is_dir():
            return found
        if not (found / relative).is_file():
            raise UserError(
                f"data.{option}: '{found}' has no '{relative}', which belongs to the picture of that name: add "
                f"it, or give one file for all"
            )
        return found / relative


def _unique(relative: list[Path]) -> dict[str, Path]:
    """A name fit for a file for each path: its parts without the ending, or with it where two would be equal."""
    plain = ["_".join(path.with_suffix("").parts) for path in relative]
    full = ["_".join(path.parts).replace(".", "_") for path in relative]
    return {(a if plain.count(a) == 1 else b): path for a, b, path in zip(plain, full, relative, strict=True)}
