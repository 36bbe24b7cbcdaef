"""A person's own damaged picture as a measurement, and what was restored from it as files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from common.errors import UserError
from common.files import write_atomically
from common.image_range import to_uint8
from common.picture_files import Picture, write_picture
from common.pictures import captioned, grid, png_bytes
from common.shapes import image_shape
from degradations.base import Degradation, Operator
from degradations.identity import IdentityOperator
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise
from inference.iterates import Iterates, curves, strip, table, with_iterations
from inference.resize import fitted
from metrics.distortion import mse, psnr_of_mse, ssim
from restoration.base import Restoration

MISSING = (92, 124, 168)  # pixels that were not measured, in the comparison: a blue, which no grey picture has
COLUMNS = 6
MOST_PIXELS = 2**26
OWN = ".written.json"  # in the output: the names of the files there that are ours
KINDS = {1: "grey", 3: "colour"}


def fit_channels(picture: Picture, degradation: Degradation, prior_channels: int | None) -> tuple[Picture, str | None]:
    """The picture with the channels that the restoration has, and a remark where they were changed: equal channels are
    one grey channel.

    UserError where colours and prior do not fit each other.
    """
    remark = None
    if len(picture.image) == 3 and bool((picture.image == picture.image[:1]).all()):
        grey = replace(picture, image=picture.image[:1])
        if prior_channels is None or degradation.clean_shape(image_shape(grey.image.shape))[0] == prior_channels:
            picture, remark = grey, "its three channels are equal: taken as a grey picture"
    channels = degradation.clean_shape(image_shape(picture.image.shape))[0]
    if prior_channels is not None and channels != prior_channels:
        raise UserError(
            f"the picture is restored in {KINDS[channels]} ({channels} channels), the prior knows"
            f" {KINDS.get(prior_channels, 'other')} pictures ({prior_channels}): save the picture in"
            f" {KINDS.get(prior_channels, 'other channels')}, or give another --prior"
        )
    return picture, remark


def bound(picture: Picture, degradation: Degradation) -> tuple[Operator, Tensor | None]:
    """The operator whose measurement the picture is, and which of its pixels are known, float32 [1, 1, H, W] of 0 and
    1, None where all are.

    A pixel is not known where the operator's mask leaves it out, and where the picture is fully transparent: nobody
    sees the colour there. UserError where nothing is known, and where the restored picture would have more than 2^26
    pixels.
    """
    shape = degradation.clean_shape(image_shape(picture.image.shape))
    if shape[1] * shape[2] > MOST_PIXELS:
        raise UserError(
            f"the restored picture would have {shape[2]}x{shape[1]} pixels (width x height): give a smaller factor, or"
            " a part of the picture"
        )
    operator = degradation.bind({}, shape)
    known, visible = operator.mask, picture.visible
    if visible is not None:
        known = visible.float()[None] if known is None else known * visible
    if known is not None and not bool(known.any()):
        raise UserError(
            "no pixel of the picture is known, all are missing or transparent: paint known pixels white in the --mask,"
            " or save the picture opaque"
        )
    return operator, known


def user_measurement(
    picture: Picture,
    degradation: Degradation,
    *,
    sigma_255: float,
    size: tuple[int, int] | None = None,
    masks: bool = True,
    device: torch.device | str = "cpu",
) -> tuple[Picture, Measurement]:
    """The picture as the measurement y of image 0, and the picture itself, both resized so that the restored one has
    `size` (H, W) where that is given.

    Pixels that are not known are 0 in y where the operator is a mask or the identity (which becomes one); under every
    other operator, and with masks=False, transparent pixels get the colour of the nearest visible one. sigma_255:
    of the picture as it was given.
    """
    operator, known = bound(picture, degradation)
    if known is not None:
        picture = replace(picture, image=nearest_known(picture.image, known[0, 0] > 0))
    gain = 1.0
    if size is not None:
        measured = (
            size if operator.keeps_pixels else degradation.bind({}, (operator.input_shape[0], *size)).output_shape[1:]
        )
        found = fitted(picture, known, (measured[0], measured[1]))
        picture, known, gain = found.picture, found.known, found.gain
    if known is not None and (operator.keeps_pixels or (masks and isinstance(operator, IdentityOperator))):
        operator = Mask(
            known[0, 0],
            channels=len(picture.image),
            description=operator.description if operator.keeps_pixels else "transparent pixels",
        )
    elif size is not None:
        operator = degradation.bind({}, degradation.clean_shape(image_shape(picture.image.shape)))
    operator = operator.to(device)
    y = picture.image[None].to(device)
    y = y if operator.mask is None else y * operator.mask
    return picture, Measurement(y=y, operator=operator, noise=GaussianNoise(sigma_255=sigma_255 * gain), index=(0,))


def nearest_known(image: Tensor, known: Tensor) -> Tensor:
    """image [C, H, W] with each pixel that is not known, bool [H, W], replaced by the known one that is
    nearest to it.
    """
    places: Any = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    return image[:, torch.from_numpy(places[0]), torch.from_numpy(places[1])]


def user_truth(truth: Picture, shape: tuple[int, int, int], where: str) -> Tensor:
    """[C, H, W] of the truth of a restoration of this shape; UserError where it has another size, or colours where the
    restoration is grey.
    """
    image = truth.image
    if tuple(image.shape[1:]) != tuple(shape[1:]):
        raise UserError(
            f"--truth '{where}' has {image.shape[2]}x{image.shape[1]} pixels (width x height), the restored picture has"
            f" {shape[2]}x{shape[1]}"
        )
    if len(image) == 3 and shape[0] == 1 and bool((image == image[:1]).all()):
        image = image[:1]
    if len(image) != shape[0]:
        raise UserError(
            f"--truth '{where}' is in {KINDS[len(image)]}, the picture is restored in {KINDS[shape[0]]}: give both in"
            " the same"
        )
    return image


def quality(x: Tensor, truth: Tensor, visible: Tensor | None = None) -> tuple[float, float]:
    """(PSNR in dB, SSIM) of x and truth [C, H, W] in [-1, 1] as 8-bit pictures; where `visible`, bool [1, H, W], is
    False the pictures do not count (SSIM: are equal). SSIM is NaN where a side is under 11 pixels.
    """
    a, b = to_uint8(x.cpu())[None], to_uint8(truth.cpu())[None]
    share = 1.0
    if visible is not None:
        a, b = torch.where(visible, a, 128).to(torch.uint8), torch.where(visible, b, 128).to(torch.uint8)
        share = float(visible.double().mean())
    return float(psnr_of_mse(mse(a, b) / share)), float(ssim(a, b))


def restored_pictures(picture: Picture, samples: Tensor) -> list[Picture]:
    """Samples [N, C, H, W] with the bits and the alpha channel of the picture; where they are larger the alpha channel
    is enlarged bicubically.
    """
    alpha = picture.alpha
    if alpha is not None and alpha.shape[1:] != samples.shape[2:]:
        alpha = F.interpolate(alpha[None], size=samples.shape[2:], mode="bicubic", align_corners=False)[0].clamp(0, 1)
    return [replace(picture, image=x, alpha=alpha) for x in samples]


def write_restored(
    folder: Path,
    picture: Picture,
    measurement: Measurement,
    restoration: Restoration,
    *,
    iterates: Iterates | None = None,
    truth: Tensor | None = None,
) -> list[Path]:
    """Write what was restored, in place of what an earlier restoration left in the folder by its own list (OWN);
    returns the paths.

    restored.png (restored_0.png, ... where there are several), comparison.png (the measurement, the restorations, the
    truth), iterates.png where the method is iterative, curve.csv and curve.png where it has a trace. UserError where
    the restoration is not finite.
    """
    samples = restoration.samples[0].float().cpu()
    if not torch.isfinite(samples).all():
        smaller = "take smaller steps (--method.scale, --method.weight, --method.learning_rate)"
        raise UserError(f"the restoration is not finite (NaN or infinity): {smaller}, nothing was written")
    earlier = _own(folder)
    names = ["restored.png"] if len(samples) == 1 else [f"restored_{k}.png" for k in range(len(samples))]
    for name, one in zip(names, restored_pictures(picture, samples), strict=True):
        write_picture(folder / name, one)
    tiles = torch.cat(
        [
            _shown(measurement, samples.shape[1:]),
            *(x[None].expand(-1, 3, -1, -1) for x in [*samples, *([] if truth is None else [truth])]),
        ]
    )
    captions = ["given", *(name.removesuffix(".png").replace("_", " ") for name in names)]
    captions += [] if truth is None else ["truth"]
    pictures: dict[str, np.ndarray | None] = {
        "comparison.png": grid(captioned(tiles, captions), columns=min(len(tiles), COLUMNS), at_least=128)
    }
    if iterates is not None and len(iterates.kept) > 1:
        pictures["iterates.png"] = strip(iterates, samples[0], truth)
    trace = with_iterations(
        {k: v for k, v in restoration.trace.items() if len(v) > 1}, 0 if iterates is None else iterates.count
    )
    answer = restoration.trace.get("answer_at")
    pictures["curve.png"] = curves(trace, None if answer is None else {"answer": answer[0]})
    for name, pixels in pictures.items():
        if pixels is not None:
            write_atomically(folder / name, png_bytes(pixels))
            names.append(name)
    if pictures["curve.png"] is not None:
        write_atomically(folder / "curve.csv", table(trace))
        names.append("curve.csv")
    for name in earlier - set(names):
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / OWN, json.dumps(sorted(names)))
    return [folder / name for name in names]


def _own(folder: Path) -> set[str]:
    """The names of the files in the folder that an earlier restoration wrote; none of another folder's."""
    try:
        return {name for name in json.loads((folder / OWN).read_text()) if Path(name).name == name}
    except (OSError, ValueError, TypeError):
        return set()


def _shown(measurement: Measurement, shape: torch.Size) -> Tensor:
    """The measurement as one colour picture [1, 3, H, W] of the restoration's size, each pixel a block; missing pixels
    in blue.
    """
    y = measurement.y.float().cpu().expand(-1, 3, -1, -1)
    mask = measurement.operator.mask
    if mask is not None:
        y = torch.where(mask.cpu() == 1, y, torch.tensor(MISSING).view(1, 3, 1, 1) / 127.5 - 1)
    return y.repeat_interleave(shape[1] // y.shape[2], 2).repeat_interleave(shape[2] // y.shape[3], 3)
