"""The prior that a method asks for, from a file: a denoiser or a cold restorer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from checkpoints.foreign.detect import is_foreign, refuse_preset
from checkpoints.load import describes_cold_restorer, load_cold_restorer, load_prior
from checkpoints.lora.apply import adapt
from checkpoints.lora.files import AdapterEntry
from common.errors import UserError
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.autocast import Autocast, AutocastNetwork
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Denoiser
from restoration.base import Method


@dataclass(frozen=True)
class GivenPrior:
    """What a method gets as its `prior`, and the fingerprint of the file."""

    model: Denoiser | ColdRestorer
    fingerprint: str


def prior_for(
    method: type[Method],
    path: str | Path,
    *,
    weights: str = "ema",
    adapters: Sequence[AdapterEntry] = (),
    preset: str | None = None,
    device: torch.device | str = "cpu",
    precision: str = "32",
    where: str = "--prior",
) -> GivenPrior:
    """Load `path` as what `method.prior_kind` says; a restorer of the Gaussian family serves as a denoiser too.
    UserError where it is of the other kind.

    adapters: merged into its weights. preset: of a .pt file of guided-diffusion; other foreign checkpoints need none
    (checkpoints/foreign/detect.py).
    """
    if method.prior_kind == "restorer":
        refuse_preset(Path(path), preset)
        if is_foreign(path):
            raise UserError(
                f"{where}: {method.__name__} needs a cold restorer, and '{path}' is a denoiser of another project: give"
                " a .ckpt of ColdDiffusion"
            )
        loaded = load_cold_restorer(path, weights=weights, device=device)
        added = adapt(loaded.restorer.network, adapters, weights=weights)
        if precision == "bf16":
            loaded.restorer.network = AutocastNetwork(loaded.restorer.network)
        return GivenPrior(loaded.restorer, loaded.fingerprint + added)
    if describes_cold_restorer(path, weights=weights):
        found = load_cold_restorer(path, weights=weights, device=device)
        if not isinstance(found.restorer.family, GaussianNoiseFamily):
            raise UserError(
                f"{where}: {method.__name__} needs a denoiser, and '{path}' is a cold restorer that undoes"
                f" {found.restorer.family.description}: give a checkpoint of lightning_modules.ddpm.DDPM"
            )
        denoiser, fingerprint = found.restorer.as_denoiser(), found.fingerprint
    else:
        one = load_prior(path, weights=weights, device=device, preset=preset)
        denoiser, fingerprint = one.denoiser, one.fingerprint
        if not getattr(denoiser.network, "null_class", True):
            raise UserError(
                f"{where}: '{path}' knows classes only, and a method gives no labels: take a prior without classes, as"
                " imagenet_256_uncond"
            )
    fingerprint += adapt(denoiser.network, adapters, weights=weights)
    return GivenPrior(Autocast(denoiser) if precision == "bf16" else denoiser, fingerprint)
