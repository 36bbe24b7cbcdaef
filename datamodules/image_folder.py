"""The user's own pictures: a folder of files of any size and format that Pillow reads."""

from collections import Counter
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from common.errors import UserError
from datamodules.base import ImageDataModule
from datamodules.file_store import Files
from datamodules.pictures import CHANNELS, Fit, Mode, list_pictures
from datamodules.read_files import mode_of, read_files
from datamodules.split import held_out_by_name
from datamodules.store import ImageSet, ImageStore, everything

#: Names of sub-folders that look as if they meant something: without the options they mean nothing.
PARTS = ("train", "training", "val", "valid", "validation", "test", "testing", "mask", "masks")


class ImageFolder(ImageDataModule):
    """Pictures of a folder and all folders in it, in natural order; the index is the position in that order, among all
    files.

    Transparent pictures are laid on white, 16 bits and floating point rounded to 8, EXIF orientation is applied, the
    first full picture of several in a file is taken. What is passed over (other files, hidden ones, further links to
    the same file) is said once, with counts. Which formats: docs/pictures.md. Labels are -1. Pictures of unequal
    size need ``batch_size: 1`` in training. Other options: :class:`ImageDataModule`.

    Args:
        folder: absolute, or relative to the current folder, or else to `data_dir`.
        size: side of the square crop in pixels, or with ``crop: none`` length of the shorter side; None: pictures keep
            their size.
        crop: "center"; "random": at a place drawn from (seed, epoch, index) in training, in the middle otherwise;
            "none": shape is kept.
        resize: length of the shorter side before the crop; None: `size`; 0: not resized, but enlarged where smaller
            than the crop.
        mode: "colour", "grey", or "auto": grey where all files are.
        train: name of the subfolder with the training pictures; null: all that is not in `test` is for training.
        test: name of the subfolder with the test pictures; null: `test_images` says which are.
        test_images: without `test`: how many pictures, always the same ones, are the test set; None: a tenth; "all":
            nothing is for training.
        strict: stop at a broken file, which otherwise is named in a warning and left out.
        split_seed: of the permutation that takes validation and test images out; another value gives another partition
            (default 0).
    """

    def __init__(
        self,
        *,
        folder: str,
        size: int | None = None,
        crop: Literal["center", "random", "none"] = "center",
        resize: int | None = None,
        mode: Literal["grey", "colour", "auto"] = "colour",
        train: str | None = None,
        test: str | None = None,
        test_images: int | Literal["all"] | None = None,
        strict: bool = False,
        **options,
    ) -> None:
        super().__init__(**options)
        if size is not None and size < 1:
            raise UserError(f"size must be at least 1 pixel, got {size}")
        if crop not in ("center", "random", "none") or mode not in ("grey", "colour", "auto"):
            raise UserError(
                f"crop must be center, random or none and mode grey, colour or auto, got '{crop}' and '{mode}'"
            )
        if size is None and (crop == "random" or resize is not None):
            raise UserError("size must be given where crop is random or resize is given")
        if resize is not None and (resize < 0 or 0 < resize < (size or 0)):
            raise UserError(f"resize must be 0 or at least size ({size}), got {resize}")
        if resize is not None and crop == "none":
            raise UserError(
                f"resize goes with crop center or random, got {resize}: with crop none, size is the length of "
                f"the shorter side"
            )
        if isinstance(test_images, int) and test_images < 0:
            raise UserError(f"test_images must be at least 0, or all, got {test_images}")
        self.folder, self.size, self.crop, self.mode, self.strict = folder, size, crop, mode, strict
        self.train_folder, self.test_folder, self.test_images = train, test, test_images
        shorter = size if resize is None else (resize or None)
        self._square = size if crop == "random" else None
        self._fit = Fit(
            shorter=shorter,
            square=size if crop == "center" else None,
            least=size if crop == "random" and size is not None else 1,
        )
        self._stores: dict[str, ImageStore] = {}
        self._files: dict[str, Files] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        if self.size is not None and self.crop != "none":
            return (CHANNELS[self._mode()], self.size, self.size)
        sets = [s for s in (self.images("train"), self.images("validation"), self.images("test")) if len(s)]
        shapes = {images.shape(0) for images in sets}
        if len(shapes) != 1 or not all(images.one_shape for images in sets):
            raise UserError(f"the pictures in '{self._root()}' differ in size: give size and crop")
        return shapes.pop()

    def prepare_data(self) -> None:
        """Look for the folder: UserError where it is missing or has no pictures."""
        self._listed("test" if self.test_folder else "train")

    def _training_images(self) -> ImageSet:
        images = self._read("train")
        if self.test_folder is not None:
            return images
        rest = self._parts(images)[1]
        if len(rest) == 0 and self.test_images is None:
            raise UserError(
                f"folder '{self._root()}' has {len(images)} picture that can be read, and it is held out as the test"
                " set, so that nothing is left to train on: give more pictures, or test_images: 0"
            )
        return ImageSet(images.store, rest)

    def _test_images(self) -> ImageSet:
        if self.test_folder is not None:
            return self._read("test")
        images = self._read("train")
        return ImageSet(images.store, self._parts(images)[0])

    def _parts(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """(test, training): by the names of the files alone, so that no run trains on what another one tests."""
        n = len(images)
        wanted = max(1, n // 10) if self.test_images is None else self.test_images
        count = wanted if isinstance(wanted, int) else n
        if count > n:
            raise UserError(
                f"test_images must be at most the number of pictures in '{self._root()}' ({n}), got {count}"
            )
        return held_out_by_name([images.name(row) for row in range(n)], count)

    def _read(self, part: str) -> ImageSet:
        if part not in self._stores:
            options = {
                "memory_limit_mb": self.memory_limit_mb,
                "strict": self.strict,
                "square": self._square,
                "crop_seed": self.seed,
            }
            shape = self.shape if self.crop == "center" and self.size is not None else None
            self._stores[part] = read_files(
                self._listed(part), mode=self._mode(), fit=self._fit, shape=shape, **options
            )
        return everything(self._stores[part])

    def _mode(self) -> Mode:
        if self.mode == "auto":
            self.mode = mode_of(self._listed("train"))
        return "grey" if self.mode == "grey" else "colour"

    def _root(self) -> Path:
        folder = Path(self.folder).expanduser()
        return next((p for p in (folder, self.data_dir / folder) if p.is_dir()), folder)

    def _listed(self, part: str) -> Files:
        if part not in self._files:
            name = self.test_folder if part == "test" else self.train_folder
            folder = self._root() / (name or "")
            if not folder.is_dir():
                raise UserError(
                    f"folder '{folder}' is missing: give it absolute, or relative to the current one or to "
                    f"'{self.data_dir}'"
                )
            listing = list_pictures(folder)
            found = listing.pictures
            if part == "train" and self.test_folder is not None and name is None:
                found = [path for path in found if not path.is_relative_to(self.test_folder)]
            if not found:
                raise UserError(
                    f"folder '{folder}' has no pictures in it: put some there (.png, .jpg, .tif ...), or give "
                    f"another folder"
                )
            self._files[part] = Files.of(folder, found)
            for remark in (listing.remark(folder), _parts_remark(folder, found, name)):
                if remark is not None:
                    rank_zero_info(remark)
        return self._files[part]


def _parts_remark(folder: Path, found: list[Path], named: str | None) -> str | None:
    """What sub-folders named train, val, test or masks mean where no option names them; None where there are none."""
    counts = Counter(path.parts[0] for path in found if len(path.parts) > 1 and path.parts[0].lower() in PARTS)
    if not counts or named is not None:
        return None
    names = ", ".join(f"'{name}' ({count})" for name, count in counts.items())
    return (
        f"'{folder}': the pictures in {names} are taken like all others: a sub-folder's name means nothing by itself,"
        " data.train and data.test name those of the training and the test part"
    )
