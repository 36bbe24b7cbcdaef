"""One own picture restored by one method: what restore.py does with its command line."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from checkpoints.method_prior import prior_for
from common.build import build, describe
from common.errors import UserError
from common.files import held_folder, remove_parts, require_writable_folder
from common.picture_files import Picture, read_picture, write_picture
from common.random_streams import RandomStreams
from common.stop_signals import stopped_afterwards
from degradations.base import Degradation
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Denoiser
from diffusion.grey_through_colour import GreyThroughColour
from diffusion.tiled import Tiled
from inference.catalogue import catalogue, choose
from inference.degradation_options import KERNELS, paths_in, user_degradation
from inference.iterates import Iterates
from inference.noise_estimate import user_noise
from inference.progress import restore_watched
from inference.request import Outcome, Request
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
class Tools:
    """What the pictures of a folder share: the device, the class of the method, and its prior, read once, with what
    identifies it.
    """

    device: torch.device
    method: type[Method]
    prior: Denoiser | ColdRestorer | None = None
    fingerprint: str = ""


def restore_one(request: Request) -> list[str]:
    """Restore the picture and write it; the lines to print: paths written, PSNR and SSIM. UserError for whatever does
    not fit, before anything runs.
    """
    return restore_picture(request, tools_for(request)).lines()


def tools_for(request: Request) -> Tools:
    """The method's class and its prior; UserError where they do not exist or do not fit each other."""
    device = _device(request.device)
    method_class = choose(request.method, catalogue("restoration", Method), "--method")
    if not method_class.needs_prior:
        return Tools(device, method_class)
    asked = {"weights": request.weights, "preset": request.preset, "adapters": request.adapters, "device": device}
    given = prior_for(method_class, request.prior, **asked)
    prior = given.model
    if isinstance(prior, Denoiser) and prior.any_size and prior.reach is not None and not prior.takes_image:
        prior = Tiled(prior)
    return Tools(device, method_class, prior, given.fingerprint)


def restore_picture(request: Request, tools: Tools) -> Outcome:
    """Restore the picture by tools that may serve several; UserError as :func:`restore_one`."""
    with ExitStack() as held:
        return _restore_picture(request, tools, held)


def _restore_picture(request: Request, tools: Tools, held: ExitStack) -> Outcome:
    device, method_class, prior = tools.device, tools.method, tools.prior
    degradation = user_degradation(request.degradation, request.degradation_options)
    picture = read_picture(request.picture)
    as_colour = None
    if isinstance(prior, Denoiser) and _is_grey_for_colour(picture, degradation, prior):
        prior = GreyThroughColour(prior)
        as_colour = (
            "the prior knows colour pictures: this grey one is shown to it in three equal channels, and averaged"
        )
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
    sized = prior is not None and not getattr(prior, "any_size", False)
    size, resized = _size(request, operator.input_shape, prior.data_shape if prior is not None and sized else None)
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
    remove_parts(request.output, below=False)
    _note(
        f"{request.picture}: {remark}" if remark else None,
        None if known is None else f"{100 * (1 - float(known.mean())):.1f} % of the pixels are missing",
        smaller if operator.output_shape[1:] != operator.input_shape[1:] else None,
        f"assumed: {operator.description}" if "blur" in operator.description else None,
        resized,
        as_colour,
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

    restoration, interrupted = restore_watched(
        method,
        measurement,
        num_samples=num_samples,
        random=RandomStreams(request.seed),
        name=request.method,
        iterates=iterates,
        save=save,
    )
    with stopped_afterwards():  # or an hour's restoration would be lost in its last second
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
    return Outcome(
        paths=paths,
        compared={} if truth is None else _compared(picture, measurement, restoration, truth),
        size=(operator.input_shape[2], operator.input_shape[1]) if size is None else (size[1], size[0]),
        channels=operator.input_shape[0],
        sigma_255=sigma_255,
        estimated=request.sigma_255 is None,
        seconds=time.monotonic() - start,
        nfe=restoration.cost.nfe,
        interrupted=interrupted,
    )


def _is_grey_for_colour(picture: Picture, degradation: Degradation, prior: Denoiser) -> bool:
    """Whether a grey picture, or one of three equal channels, stays grey under the degradation, and the prior is one of
    colour pictures of any size.
    """
    image = picture.image
    grey = len(image) == 1 or bool((image == image[:1]).all())
    if not grey or prior.data_shape[0] != 3 or not prior.any_size or prior.takes_image:
        return False
    return degradation.clean_shape((1, int(image.shape[1]), int(image.shape[2])))[0] == 1


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


def _compared(
    picture: Picture, measurement: Measurement, restoration: Restoration, truth: Tensor
) -> dict[str, tuple[float, float]]:
    """(PSNR, SSIM) of every restoration, and first of the given picture where it shows what the truth shows."""
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
    return {name: quality(x, truth, visible) for name, x, visible in named}


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
