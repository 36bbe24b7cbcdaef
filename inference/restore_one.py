"""One own picture restored by one method: what restore.py does with its command line."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from checkpoints.lora.files import AdapterEntry
from checkpoints.method_prior import prior_for
from common.build import build, describe
from common.errors import UserError
from common.files import held_folder, require_writable_folder
from common.picture_files import Picture, read_picture, write_picture
from common.random_streams import RandomStreams
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from diffusion.cold_restorer import ColdRestorer
from inference.catalogue import catalogue, choose
from inference.degradation_options import KERNELS, paths_in, user_degradation
from inference.iterates import Iterates
from inference.noise_estimate import user_noise
from inference.progress import restore_watched
from inference.resize import fitted
from inference.user_image import (
    bound,
    fit_channels,
    quality,
    restored_pictures,
    user_measurement,
    user_truth,
    write_restored,
)
from restoration.base import Method, Restoration

OUTPUTS = ("restored", "comparison", "iterates", "curve", "unfinished")


@dataclass(frozen=True)
class Request:
    """What to restore and how; method and degradation by name with their options, prior a path with adapters beside it,
    and a preset where it needs one.

    sigma_255: standard deviation of the noise in grey levels, None to estimate it. truth: a picture to compare with.
    resize: make a picture that is not of the prior's size as large; any_size: restore it as it is.
    """

    picture: Path
    output: Path
    method: str
    degradation: str
    prior: Path
    method_options: dict[str, Any] = field(default_factory=dict)
    degradation_options: dict[str, Any] = field(default_factory=dict)
    sigma_255: float | None = None
    truth: Path | None = None
    resize: bool = False
    any_size: bool = False
    num_samples: int = 1
    seed: int = 0
    device: str = "auto"
    weights: str = "ema"
    preset: str | None = None
    adapters: tuple[AdapterEntry, ...] = ()


def restore_one(request: Request) -> list[str]:
    """Restore the picture and write it; the lines to print: paths written, PSNR and SSIM. UserError for whatever does
    not fit, before anything runs.
    """
    with ExitStack() as held:
        return _restore_one(request, held)


def _restore_one(request: Request, held: ExitStack) -> list[str]:
    device = _device(request.device)
    method_class = choose(request.method, catalogue("restoration", Method), "--method")
    degradation = user_degradation(request.degradation, request.degradation_options)
    picture = read_picture(request.picture)
    asked = {"weights": request.weights, "preset": request.preset, "adapters": request.adapters, "device": device}
    prior = prior_for(method_class, request.prior, **asked).model if method_class.needs_prior else None
    injected: dict[str, Any] = {} if prior is None else {"prior": prior}
    method = build(
        describe(method_class, request.method_options), Method, where=f"--method {request.method}", **injected
    )
    if method.uses_truth and request.truth is None:
        raise UserError(
            f"--method {request.method} with these options looks at the truth: give --truth FILE, or other options"
        )
    cold = prior is not None and method_class.prior_kind == "restorer"
    picture, remark = fit_channels(picture, degradation, None if prior is None else prior.data_shape[0])
    operator, known = bound(picture, degradation)
    smaller = f"assumed: it was made smaller by {operator.description}; --kernel {'|'.join(KERNELS)} chooses another"
    truth = (
        None
        if request.truth is None
        else user_truth(read_picture(request.truth), operator.input_shape, str(request.truth))
    )
    size, resized = _size(request, operator.input_shape, None if prior is None else prior.data_shape)
    # A cold restorer estimates by itself how much it has to undo.
    sigma_255, noise = user_noise(
        picture.image, known, operator, 0.0 if cold and request.sigma_255 is None else request.sigma_255
    )
    picture, measurement = user_measurement(
        picture, degradation, sigma_255=sigma_255, size=size, masks=not cold, device=device
    )
    if truth is not None and size is not None:
        truth = fitted(Picture(truth), None, size).picture.image
    if truth is not None and method.uses_truth:
        measurement = replace(measurement, truth=truth[None].to(device))
    method.check(measurement.operator, measurement.noise)
    _refuse_own_inputs(request)
    require_writable_folder(request.output, "--output")
    busy = (
        f"--output '{request.output}' is being written by another restoration: wait until it has ended, or give another"
        " folder"
    )
    held.enter_context(held_folder(request.output, busy))
    _note(
        f"{request.picture}: {remark}" if remark else None,
        None if known is None else f"{100 * (1 - float(known.mean())):.1f} % of the pixels are missing",
        smaller if operator.output_shape[1:] != operator.input_shape[1:] else None,
        resized,
        noise,
        (
            f"{request.method} is deterministic: it gives one restoration"
            if request.num_samples > 1 and method.deterministic
            else None
        ),
    )
    start = time.monotonic()
    num_samples = 1 if method.deterministic else request.num_samples
    iterates = Iterates() if num_samples == 1 else None  # the steps of several chains may follow one another
    unfinished = request.output / "unfinished.png"

    def save(estimate: Tensor) -> None:
        write_picture(unfinished, restored_pictures(picture, estimate[:1].float().cpu())[0])

    restoration = restore_watched(
        method,
        measurement,
        num_samples=num_samples,
        random=RandomStreams(request.seed),
        name=request.method,
        iterates=iterates,
        save=save,
    )
    paths = write_restored(request.output, picture, measurement, restoration, iterates=iterates, truth=truth)
    unfinished.unlink(missing_ok=True)
    _note(*(f"{request.method}: {note}" for note in restoration.notes))
    for severity in restoration.trace.get("severity", ()):
        how = (
            "given"
            if request.method_options.get("severity") is not None
            else "estimated; another one: --method.severity N"
        )
        _note(f"severity {severity:g} of {cast(ColdRestorer, prior).severities} ({how})")
    calls = f", {restoration.cost.nfe} network calls each" if prior is not None else ""
    _note(
        f"{request.method}: {num_samples} restoration{'s' * (num_samples > 1)} in {time.monotonic() - start:.1f}"
        f" s{calls}"
    )
    return [*map(str, paths), *([] if truth is None else _compared(picture, measurement, restoration, truth))]


def _size(
    request: Request, shape: tuple[int, int, int], prior_shape: tuple[int, ...] | None
) -> tuple[tuple[int, int] | None, str | None]:
    """(the size that the restored picture is made to have, or None to leave it, what to say about it)."""
    if prior_shape is None or tuple(shape[1:]) == tuple(prior_shape[1:]):
        return None, None
    here, there = f"{shape[2]}x{shape[1]}", f"{prior_shape[2]}x{prior_shape[1]}"
    if request.resize:
        distorted = ", which changes its proportions" if shape[1] * prior_shape[2] != shape[2] * prior_shape[1] else ""
        return (
            (prior_shape[1], prior_shape[2]),
            f"the restored picture, {here} pixels, is made {there}, the size that the prior was trained on{distorted}",
        )
    if request.any_size:
        return (
            None,
            (
                f"the prior was trained on {there} pixels, this picture is restored at {here}: it may not know such"
                " pictures"
            ),
        )
    raise UserError(
        f"the prior was trained on pictures of {there} pixels, and this one is restored at {here}: give --resize to"
        f" make it {there}, --any_size to restore it as it is, another --prior, or --method dip, which needs none"
    )


def _compared(picture: Picture, measurement: Measurement, restoration: Restoration, truth: Tensor) -> list[str]:
    """PSNR and SSIM of every restoration, and of the given picture where it shows what the truth shows."""
    pictures = restored_pictures(picture, restoration.samples[0].float().cpu())
    named = [
        ("restored" if len(pictures) == 1 else f"restored_{k}", p.image, p.visible) for k, p in enumerate(pictures)
    ]
    mask = measurement.operator.mask if measurement.operator.keeps_pixels else None
    visible = pictures[0].visible
    if isinstance(measurement.operator, IdentityOperator) or (
        mask is not None and visible is not None and torch.equal(mask[0].cpu() > 0, visible)
    ):
        named.insert(0, ("given", measurement.y[0].float().cpu(), pictures[0].visible))
    lines = []
    for name, x, visible in named:
        decibels, similarity = quality(x, truth, visible)
        lines.append(
            f"{name}: PSNR {decibels:.2f} dB, SSIM"
            f" {'not defined under 11 pixels' if similarity != similarity else f'{similarity:.4f}'}"
        )
    return lines


def _refuse_own_inputs(request: Request) -> None:
    """UserError where a file that is read would be written over."""
    for path in (request.picture, request.truth, *(Path(p) for p in paths_in(request.degradation_options))):
        if path is not None and path.resolve().parent == request.output.resolve() and path.stem.startswith(OUTPUTS):
            raise UserError(
                f"--output {request.output} holds '{path}' itself, which would be written over: give another folder"
            )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device '{name}' cannot be used on this machine: give cpu, cuda or auto") from error
    return device


def _note(*texts: str | None) -> None:
    for text in texts:
        if text is not None:
            print(f"note: {text}", file=sys.stderr, flush=True)
