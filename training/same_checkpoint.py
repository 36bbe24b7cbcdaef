"""Whether a checkpoint is of what the config says: network, schedule, data; the weights of one that is."""

from typing import Any, cast

from checkpoints.classifier import describe_classifier, load_classifier
from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.load import load_cold_restorer, load_prior
from checkpoints.prior import describe_prior
from common.errors import UserError
from diffusion.cold_starts.base import Start
from lightning_modules.classifier import Classifier
from lightning_modules.cold_diffusion import ColdDiffusion
from lightning_modules.fine_tuning import FineTuning
from lightning_modules.prior import PriorModule
from lightning_modules.run_module import RunModule

Weights = dict[str, Any]


def module_of_the_loss(model: RunModule) -> RunModule:
    """The module whose loss is trained: for a fine-tuning the one that it goes on with."""
    return model.inner if isinstance(model, FineTuning) else model


def checked_weights(model: RunModule, path: str) -> Weights | None:
    """The raw weights of the checkpoint at `path`, which is of what `model` is; None where a model of this kind has
    nothing to compare.

    Raises:
        UserError: the checkpoint is of another network, schedule, prediction, family or shape of images than the
            config: its images would be wrong, or its weights not fit.
    """
    if isinstance(model, PriorModule):
        cold = isinstance(module_of_the_loss(model), ColdDiffusion)
        return _of_a_cold_restorer(model, path) if cold else _of_a_prior(model, path)
    return _of_a_classifier(model, path) if isinstance(model, Classifier) else None


def _of_a_prior(model: PriorModule, path: str) -> Weights:
    prior = load_prior(path, weights="raw")
    name = prior.description["data"]["name"]
    # Described anew: what was written before an option existed has its default.
    keys = ("prediction", "variance", "sigma_data", "network", "schedule", "data")
    _refuse(path, keys, theirs=describe_prior(prior.denoiser, data=name), ours=model.describe(name))
    return prior.denoiser.network.state_dict()


def _of_a_cold_restorer(model: PriorModule, path: str) -> Weights:
    """What its start has learnt is taken over too."""
    found = load_cold_restorer(path, weights="raw")
    name = found.description["data"]["name"]
    theirs = describe_cold_restorer(found.restorer, data=name, start=found.start)
    _refuse(path, ("network", "family", "data", "start"), theirs=theirs, ours=model.describe(name))
    if found.start is not None:
        cold = cast(ColdDiffusion, module_of_the_loss(model))
        cast(Start, cold.start).load(found.start.state())
    return found.restorer.network.state_dict()


def _of_a_classifier(model: Classifier, path: str) -> Weights:
    found = load_classifier(path, weights="raw")
    name, shape = found.description["data"].get("name", "unknown"), tuple(found.description["data"]["shape"])
    theirs = describe_classifier(found.network, shape=shape, data=name)
    _refuse(path, ("network", "data"), theirs=theirs, ours=model.descriptions(name)["classifier"])
    return found.network.state_dict()


def _refuse(path: str, keys: tuple[str, ...], *, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    for key in keys:
        if ours.get(key) != theirs.get(key):
            raise UserError(
                f"--ckpt_path '{path}' has another {key} than the config"
                f" ({_first_difference(theirs.get(key), ours.get(key))}): give the config that it was trained with"
            )


def _first_difference(there: Any, here: Any, key: str = "") -> str:
    """ "init_args.channels: 48 there, 32 here" for the first difference of two plain values."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in dict.fromkeys([*there, *here]):
            if there.get(name) != here.get(name):
                return _first_difference(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
    return f"{key or 'it'}: {there!r} there, {here!r} here"
