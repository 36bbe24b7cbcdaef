"""A person's own damaged picture as a measurement, and what was restored from it as PNG files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from common.errors import UserError, disk_message
from common.files import write_atomically
from common.image_range import to_float
from common.pictures import as_picture, grid, png_bytes
from degradations.base import Degradation
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Restoration

MISSING = (92, 124, 168)  # pixels that were not measured, in the comparison: a blue, which no grey picture has
COLUMNS = 6


def read_picture(path: str | Path) -> Tensor:
    """uint8 [C, H, W], C = 1 or 3, of an 8-bit grey or colour picture; a palette becomes colours, an alpha channel that hides nothing is dropped.

    UserError where the file is missing, empty, a folder or no picture, and for 16 bits, transparency and other colour spaces: whatever would have to be
    changed before it could be a measurement is for the person to decide.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"'{path}' is a folder: give the path of one picture")
    if not path.exists():
        raise UserError(f"there is no picture at '{path}': give the path of a PNG file")
    if path.stat().st_size == 0:
        raise UserError(f"the picture '{path}' is empty (0 bytes): save it again")
    try:
        with Image.open(path) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                raise UserError(f"'{path}' holds {opened.n_frames} pictures (an animation or pages): save one of them as PNG")
            picture = ImageOps.exif_transpose(opened)
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        message = disk_message(error) if isinstance(error, OSError) else None
        raise UserError(message or f"'{path}' cannot be read as a picture, it is damaged or of an unknown format: save it as PNG") from error
    return torch.from_numpy(_plain(picture, path))


def _plain(picture: Image.Image, path: Path) -> np.ndarray:
    """uint8 [C, H, W] of a decoded picture."""
    if picture.mode.startswith(("I", "F")):
        raise UserError(f"'{path}' has more than 8 bits a pixel (Pillow mode {picture.mode}): save it with 8 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] < 255:
            raise UserError(f"'{path}' has transparent pixels: save it without an alpha channel, and give missing pixels by --mask FILE")
        picture = picture.convert("RGB")
    if picture.mode in ("1", "P"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    if picture.mode not in ("L", "RGB"):
        raise UserError(f"'{path}' is in the colour mode {picture.mode}: save it in grey or RGB")
    pixels = np.array(picture)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fit_channels(pixels: Tensor, degradation: Degradation, prior_channels: int | None) -> tuple[Tensor, str | None]:
    """The pixels with the channels that the restoration has, and a remark where they were changed: equal channels are one grey channel.

    UserError where colours and prior do not fit each other.
    """
    remark = None
    if len(pixels) == 3 and bool((pixels == pixels[:1]).all()):
        grey = pixels[:1]
        if prior_channels is None or degradation.clean_shape(tuple(grey.shape))[0] == prior_channels:
            pixels, remark = grey, "its three channels are equal: taken as a grey picture"
    channels = degradation.clean_shape(tuple(pixels.shape))[0]
    if prior_channels is not None and channels != prior_channels:
        kinds = {1: "grey", 3: "colour"}
        raise UserError(
            f"the picture is restored in {kinds[channels]} ({channels} channels), the prior knows {kinds.get(prior_channels, 'other')} pictures "
            f"({prior_channels}): save the picture in {kinds.get(prior_channels, 'other channels')}, or give another --prior"
        )
    return pixels, remark


def own_measurement(pixels: Tensor, degradation: Degradation, noise: Noise, device: torch.device) -> Measurement:
    """The picture as the measurement y of image 0: missing pixels are set to 0, whatever was painted there."""
    operator = degradation.bind({}, degradation.clean_shape(tuple(pixels.shape))).to(device)
    y = to_float(pixels)[None].to(device)
    if operator.mask is not None:
        y = y * operator.mask
    return Measurement(y=y, operator=operator, noise=noise, index=(0,))


def write_restored(folder: Path, measurement: Measurement, restoration: Restoration) -> list[Path]:
    """Write restored.png (restored_0.png, ... where there are several) and comparison.png: the measurement beside them; returns the paths."""
    samples = restoration.samples[0].float().cpu()
    if not torch.isfinite(samples).all():
        raise UserError("the restoration is not finite (NaN or infinity): take smaller steps (--method.scale, --method.weight), nothing was written")
    names = ["restored.png"] if len(samples) == 1 else [f"restored_{k}.png" for k in range(len(samples))]
    pictures = {name: as_picture(x) for name, x in zip(names, samples, strict=True)}
    tiles = torch.cat([_shown(measurement, samples.shape[1:]), samples.expand(-1, 3, -1, -1)])
    pictures["comparison.png"] = grid(tiles, columns=min(len(tiles), COLUMNS), at_least=128)
    for name, picture in pictures.items():
        write_atomically(folder / name, png_bytes(picture))
    return [folder / name for name in pictures]


def _shown(measurement: Measurement, shape: torch.Size) -> Tensor:
    """The measurement as one colour picture [1, 3, H, W] of the restoration's size, each pixel a block; missing pixels in blue."""
    y = measurement.y.float().cpu().expand(-1, 3, -1, -1)
    mask = measurement.operator.mask
    if mask is not None:
        y = torch.where(mask.cpu() == 1, y, torch.tensor(MISSING).view(1, 3, 1, 1) / 127.5 - 1)
    return y.repeat_interleave(shape[1] // y.shape[2], 2).repeat_interleave(shape[2] // y.shape[3], 3)
