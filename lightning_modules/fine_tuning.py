"""Trains a prior further, from its file: on other images, for another degradation, with all of its weights or
(lora_fine_tuning.py) beside them.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from checkpoints.foreign.detect import refuse_preset
from checkpoints.load import describes_cold_restorer, load_cold_restorer, load_prior
from checkpoints.lora.merging import weights_hash, widened
from common.batch import Batch
from common.build import build, find_class
from common.errors import UserError
from common.renamed import modernised
from diffusion.cold_starts.base import Start
from diffusion.continuous import ContinuousDenoiser
from diffusion.weighting.base import Weighting
from lightning_modules.ddpm_for_operator import DDPMForOperator
from lightning_modules.image_conditioned_ddpm import ImageConditionedDDPM
from lightning_modules.prior import PriorModule

DEFAULTS = {"denoiser": "lightning_modules.ddpm.DDPM", "restorer": "lightning_modules.cold_diffusion.ColdDiffusion"}
DEFAULT_SAMPLER = {"class_path": "diffusion.samplers.dpm_solver_pp.DPMSolverPP2M"}


class FineTuning(PriorModule):
    """The loss of the module that trains such priors, from weights that were trained before; network, schedule and
    prediction are those of the prior.

    Checkpoints are those of the module that `training` names.

    Args:
        prior: path of a denoiser or cold restorer, ours or of others (or of a checkpoint of adapters: they are merged
            first).
        weights: "ema" or "raw" of it.
        preset: of a .pt file of guided-diffusion without a YAML file beside it (checkpoints/foreign/adm_flags.py).
        training: how it goes on, {class_path, init_args} of a PriorModule without what the prior itself says and
            without the options of TrainedModule, which are given here; null: DDPM for a denoiser, ColdDiffusion for a
            restorer. lightning_modules.ddpm_for_operator.DDPMForOperator gives the network a second image. A DDPM keeps
            the weighting that the prior was trained with and draws with DPMSolver++ unless it says otherwise. The other
            arguments: see TrainedModule.

    Raises:
        UserError: a prior that cannot be read and for options that do not fit it.
    """

    def __init__(
        self,
        *,
        prior: str,
        weights: Literal["ema", "raw"] = "ema",
        preset: str | None = None,
        training: dict[str, Any] | str | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        given, description = _parts_of(prior, weights, preset)
        spec: dict[str, Any] = {"class_path": training} if isinstance(training, str) else dict(training or {})
        # a second config replaces the whole entry, class and all: the default would train for something else
        if spec and "class_path" not in spec:
            raise UserError(
                f"model.training has options and no class_path: name it, such as {DEFAULTS[description['kind']]}, with"
                " all options beside it"
            )
        spec.setdefault("class_path", DEFAULTS[description["kind"]])
        found = find_class(spec["class_path"], PriorModule, where="model.training")
        # --model.training.init_args.NAME VALUE arrives beside class_path: the parser knows no class there, and leaves
        # init_args out of names.
        beside = {name: spec.pop(name) for name in list(spec) if name not in ("class_path", "init_args")}
        spec["init_args"] = {**(spec.get("init_args") or {}), **beside}
        if issubclass(found, FineTuning):
            raise UserError(
                "model.training must name how a prior is trained, such as lightning_modules.ddpm.DDPM, not another"
                " fine-tuning"
            )
        conditioning = description.get("guide")
        if conditioning is not None and not issubclass(found, (DDPMForOperator, ImageConditionedDDPM)):
            raise UserError(
                f"model.prior '{prior}' is given a second image, and model.training {found.__name__} gives none: name"
                " lightning_modules.ddpm_for_operator.DDPMForOperator, or"
                " lightning_modules.image_conditioned_ddpm.ImageConditionedDDPM"
            )
        if description["kind"] == "denoiser":
            spec["init_args"].setdefault("sampler", DEFAULT_SAMPLER)
            if not getattr(given["network"], "null_class", True):
                # it has no row for "no class", and would refuse the first image without a label
                spec["init_args"].setdefault("label_dropout", 0.0)
            # a file of before has a name, whose numbers are the defaults and the network's own
            said = {"sigma_data": given.get("sigma_data", 0.5), **(description.get("training") or {})}
            before = modernised(said, warn=False).get("weighting")
            if isinstance(before, dict) and "weighting" not in spec["init_args"]:
                # what a file names is built before anything else sees it, so that it can only be one of the project's
                of_file = build(before, Weighting, where=f"the prior '{prior}', weighting", project_only=True)
                spec["init_args"]["weighting"] = of_file.spec
        elif "start" in description and "start" not in spec["init_args"]:
            # to be fitted to the images of now
            given["start"] = build(description["start"], Start, where=f"the prior '{prior}', start", project_only=True)
        self.prior_path, self.prior_weights, self.prior_preset = prior, weights, preset
        self.prior_data = description["data"].get("name", "unknown")
        self.images_side_by_side = (
            found.images_side_by_side if given["network"].in_channels == given["data_shape"][0] else 1
        )
        if self.images_side_by_side > 1:
            given["network"] = _seeing(given["network"], self.images_side_by_side)
        self.base_hash = weights_hash(given["network"].state_dict())
        given["network"].train().requires_grad_(True)  # it was read to be used: without dropout, and frozen
        shared = {
            name: getattr(self, name)
            for name in ("learning_rate", "weight_decay", "betas", "warmup_steps", "seed", "channels_last", "fused")
        }
        self.inner: PriorModule = build(spec, PriorModule, where="model.training", **given, **shared, compile=False)
        if conditioning is not None and self.inner.describe("").get("guide") != conditioning:
            raise UserError(
                f"model.prior '{prior}' was trained with the conditioning image {conditioning}, and model.training has"
                " another: set its form and its other options so"
            )
        # It has the trainer, but Lightning takes logs of the module that it trains only.
        vars(self.inner)["log"] = lambda *args, **kwargs: self.log(*args, **kwargs)

    @property
    def network(self) -> nn.Module:
        return self.inner.network

    @property
    def data_shape(self) -> tuple[int, int, int]:
        return self.inner.data_shape

    @property
    def generates(self) -> bool:
        return self.inner.generates

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.inner.setup(stage)

    def check_drawing(self, *, begun: bool) -> None:
        self.inner.check_drawing(begun=begun)

    def losses(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.inner.losses(batch, generator)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.inner.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.inner.on_validation_epoch_end()

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    def generate(self, index: list[int]) -> Tensor:
        return self.inner.generate(index)

    def samples(self, count: int, batch_size: int) -> tuple[Tensor, int | None]:
        return self.inner.samples(count, batch_size)

    def describe(self, data: str) -> dict[str, Any]:
        description = self.inner.describe(data)
        seen = {"images": self.images_seen, "steps": self.global_step}
        begun = {
            "path": self.prior_path,
            "weights": self.prior_weights,
            "data": self.prior_data,
            "hash": self.base_hash,
        }
        begun |= {"preset": self.prior_preset} if self.prior_preset else {}
        return {**description, "training": {**description["training"], **seen, "from": begun}}

    # In checkpoints the weights have the names that the module which `training` names would give them: whoever reads a
    # prior need not know how it began.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"] = {
            name.removeprefix("inner."): value for name, value in checkpoint["state_dict"].items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        checkpoint["state_dict"] = {f"inner.{name}": value for name, value in checkpoint["state_dict"].items()}


def _parts_of(path: str, weights: str, preset: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(constructor arguments of the module that trains such a prior, its description)."""
    if describes_cold_restorer(path, weights=weights):
        refuse_preset(Path(path), preset)
        found = load_cold_restorer(path, weights=weights)
        restorer = found.restorer
        return {
            "network": restorer.network,
            "family": restorer.family,
            "data_shape": list(restorer.data_shape),
        }, found.description
    prior = load_prior(path, weights=weights, preset=preset)
    denoiser = prior.denoiser
    parts = {"network": denoiser.network, "prediction": denoiser.prediction, "data_shape": list(denoiser.data_shape)}
    if isinstance(denoiser, ContinuousDenoiser):
        return {**parts, "schedule": denoiser.levels, "sigma_data": denoiser.sigma_data}, prior.description
    return {**parts, "schedule": denoiser.schedule, "variance": denoiser.variance}, prior.description


def _seeing(network: nn.Module, images: int) -> nn.Module:
    """The network with that many images side by side as its input, which answers as it did: see
    checkpoints.lora.merging.widened.
    """
    described: Any = network  # one that says how it was built, and its channels
    spec = described.spec
    spec["init_args"]["in_channels"] = images * described.in_channels
    spec["init_args"].setdefault("out_channels", None)
    if spec["init_args"]["out_channels"] is None:
        spec["init_args"]["out_channels"] = described.out_channels
    wider = build(spec, nn.Module, where="model.prior, network")
    wider.load_state_dict(widened(network.state_dict(), images))
    return wider
