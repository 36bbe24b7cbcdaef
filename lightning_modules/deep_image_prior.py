"""Fits untrained networks to pictures, one to each: a training step is one iteration of the deep image prior. Ulyanov
et al. 2018 (1711.10925).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from common.batch import Batch
from common.compute import count_flops
from common.errors import UserError
from common.random_streams import RandomStreams
from datamodules.restoration_data import RestorationData
from degradations.measurement import Measurement
from lightning_modules.dip_groups import dealt, groups_of
from lightning_modules.run_module import RunModule
from restoration.deep_image_prior.fit import DIPFit
from restoration.dip import DIP, TOGETHER

PRECISIONS = {"32-true": (torch.float32, False), "64-true": (torch.float64, False), "bf16-mixed": (torch.float32, True)}


@dataclass(frozen=True)
class Group:
    """Pictures that are fitted in one pass.

    Args:
        number: of the group.
        rows: of the data.
        truth: [B, C, H, W] in [-1, 1] where it is known.
    """

    number: int
    rows: list[int]
    names: list[str]
    fit: DIPFit
    truth: Tensor | None


class DeepImagePrior(RunModule):
    """min_theta |A f_theta(z) - y|^2 for each picture, stopped in time; the same iterations as
    :class:`restoration.dip.DIP` with the same options and seed.

    Several processes divide the pictures; nothing is averaged between them. A picture that has stopped keeps its
    answer; the others go on. A checkpoint holds everything: weights, moments, averages, the criterion's state,
    random positions; a run that was stopped goes on as if it had not been, on any number of processes. Logged:
    train/loss, the mean over the pictures that are being fitted; train/grad_norm, of this process; images.

    The other arguments: see restoration/dip.py; `iterations` is the most that a criterion may plan with,
    trainer.max_steps only pauses a run. Precision is the trainer's: 32-true, bf16-mixed or 64-true.

    Args:
        seed: of the networks' weights and inputs.
        together: how many pictures of one shape are fitted in one pass; null for 1 on a CPU, 16 on an accelerator.

    Raises:
        UserError: options of the trainer that would mix pictures (clipping, accumulation) and strategies that would
            average or shard them.
    """

    averaged = False

    def __init__(self, *, seed: int = 0, together: int | None = None, **options) -> None:
        super().__init__()
        try:
            self.method = DIP(together=together, bf16=False, **options)
        except ValueError as error:
            raise UserError(f"model: {error}") from error
        self.seed = seed
        self.automatic_optimization = False
        self.strict_loading = False
        self.groups: list[Group] = []
        self.names: list[str] = []
        self.plan: list[list[int]] = []
        self._networks = nn.ModuleList()
        self._optimizer: _EveryFit | None = None
        self._flops = 0

    # What the callbacks ask.

    @property
    def network(self) -> nn.Module:
        return self._networks

    @property
    def pictures(self) -> list[tuple[Group, int]]:
        """(group, its row) of every picture of this process, in the order of the data."""
        found = [(group, k) for group in self.groups for k in range(len(group.rows))]
        return sorted(found, key=lambda pair: pair[0].rows[pair[1]])

    def is_over(self, fit: DIPFit) -> bool:
        """Whether nothing of a fit is left to do."""
        return fit.iteration >= fit.settings.iterations or bool(fit.stopped.all())

    @property
    def active(self) -> list[Group]:
        """Groups of this process in which a picture is still being fitted."""
        return [group for group in self.groups if group.number not in self._over]

    def flops_per_image(self, batch: Batch) -> int:
        del batch
        fits = [group.fit for group in self.groups]
        with torch.autocast(self.device.type, enabled=False):
            return (
                3
                * sum(count_flops(lambda fit=fit: fit.network(fit.z)) for fit in fits)
                // sum(len(fit.rows) for fit in fits)
            )

    def non_finite_part(self) -> str | None:
        for group in self.groups:
            bad = ~torch.isfinite(group.fit.output).flatten(1).all(1)
            if bool(bad.any()):
                return f"in the fit of picture '{group.names[int(bad.nonzero()[0])]}'"
        return "in a weight or the loss of a picture whose output is still finite"

    def describe_size(self) -> str:
        each = sum(p.numel() for p in self.groups[0].fit.network.parameters()) // len(self.groups[0].rows)
        return f"{type(self).__name__}, {each:,} parameters for each picture"

    # Beginning.

    def setup(self, stage: str) -> None:
        data, trainer = getattr(self.trainer, "datamodule", None), self.trainer
        if not isinstance(data, RestorationData):
            raise UserError(
                "model is a DeepImagePrior, which restores pictures one by one, and data is"
                f" {'missing' if data is None else f'a {type(data).__name__}'}: give datamodules.user_images.UserImages"
                " or datamodules.degraded_images.DegradedImages"
            )
        self.check_trainer(trainer)
        if isinstance(trainer.strategy, DDPStrategy):
            # Without the wrapper no weight is sent and no gradient averaged: every process has pictures, and thus
            # networks, of its own.
            trainer.strategy.configure_ddp = lambda: None
        if self.groups:
            return
        self.names = data.names
        self._shapes = [data.shape(row) for row in range(len(self.names))]
        data.batch_per_process(trainer.world_size)
        together = self.method.together or (1 if self._root_device.type == "cpu" else TOGETHER)
        self._begin(groups_of(self._shapes, together, trainer.world_size))

    def check_trainer(self, trainer: pl.Trainer) -> None:
        if trainer.precision not in PRECISIONS:
            raise UserError(
                f"trainer.precision must be one of {', '.join(PRECISIONS)} for a deep image prior, got"
                f" '{trainer.precision}'"
            )
        if trainer.accumulate_grad_batches != 1 or trainer.gradient_clip_val:
            raise UserError(
                "trainer.accumulate_grad_batches must be 1 and gradient_clip_val null for a deep image prior, whose"
                " iterations are of one picture each and must not depend on its neighbours, got"
                f" {trainer.accumulate_grad_batches} and {trainer.gradient_clip_val}"
            )
        if type(trainer.strategy) not in (DDPStrategy, SingleDeviceStrategy):
            name = type(trainer.strategy).__name__
            raise UserError(
                "trainer.strategy must be auto or ddp for a deep image prior, whose pictures are divided and not its"
                f" networks, got {name}"
            )

    @property
    def _root_device(self) -> torch.device:
        return self.trainer.strategy.root_device

    def _begin(self, plan: list[list[int]]) -> None:
        """Build the fits of this process for these groups of rows."""
        world = self.trainer.world_size
        if len(plan) < world:
            raise UserError(
                f"the pictures are in {len(plan)} groups, which {world} processes cannot share: set trainer.devices to"
                f" at most {len(plan)}"
            )
        for group in self.groups:
            group.fit.close()
        self.plan = plan
        mine = dealt(plan, self._shapes, world)[self.trainer.global_rank]
        self.groups = [self._group(number, plan[number]) for number in mine]
        self._networks = nn.ModuleList(group.fit.network for group in self.groups)
        self._over: set[int] = set()
        self._optimizer = None

    def _group(self, number: int, rows: list[int]) -> Group:
        data, names = self.trainer_parts.datamodule, [self.names[row] for row in rows]
        dtype, bf16 = PRECISIONS[self.trainer.precision]
        measurement = _moved(data.measurement(rows), self._root_device, dtype)
        truth = measurement.truth
        if self.method.uses_truth and truth is None:
            raise UserError(
                f"model.stopping needs the truth, and that of '{names[0]}' is not known: give data.truth, or another"
                " criterion"
            )
        try:
            self.method.check(measurement.operator, measurement.noise)
            settings = replace(self.method.settings(measurement.operator, measurement.noise), bf16=bf16)
            fit = DIPFit(
                measurement if self.method.uses_truth else measurement.without_truth(),
                settings=settings,
                stopping=self.method.criterion(measurement.noise, settings),
                terms=self.method.active_terms(),
                random=RandomStreams(self.seed),
            )
        except (UserError, ValueError) as error:
            raise UserError(f"picture '{names[0]}': {error}") from error
        return Group(number=number, rows=rows, names=names, fit=fit, truth=truth)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self._optimizer = _EveryFit(self)
        return self._optimizer

    # One iteration.

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        del batch, batch_idx
        # Precision is the network's, as DIPFit has it: data term, priors and criteria are not to be rounded with it.
        with _float32_by_default(), torch.autocast(self.device.type, enabled=False):
            return self._iterate()

    def _iterate(self) -> Tensor:
        groups, losses = self.active, []
        for group in groups:
            loss = group.fit.losses()
            self.manual_backward(loss.sum())
            losses.append(loss.detach())
        gradients = [p.grad for group in groups for p in group.fit.network.parameters() if p.grad is not None]
        self.grad_norm = (
            torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros((), device=self._root_device)
        )
        cast(LightningOptimizer, self.optimizers()).step()  # there is one
        for group in groups:
            group.fit.optimizer().zero_grad(set_to_none=True)
            if group.fit.observe():
                self._over.add(group.number)
        self._log(losses)
        return torch.cat(losses).float().mean() if losses else torch.zeros((), device=self._root_device)

    def _log(self, losses: list[Tensor]) -> None:
        several = self.trainer.world_size > 1
        seen = sum(group.fit.iteration * len(group.rows) for group in self.groups)
        # global_step has counted this step already; is_logged_step asks after it.
        if not self.is_logged_step:
            self.images_seen = self.images_seen if several else seen
            return
        total = sum(
            (loss.double().sum() for loss in losses),
            start=torch.zeros((), dtype=torch.float64, device=self._root_device),
        )
        values = torch.stack([total, torch.full_like(total, sum(map(len, losses))), torch.full_like(total, seen)])
        if several:
            values = self.trainer.strategy.reduce(values, reduce_op="sum")
        total, fitted, seen = values.tolist()
        self.images_seen = int(seen)
        if fitted and self.grad_norm is not None:
            self.log("train/loss", torch.tensor(total / fitted), prog_bar=True)
            self.log("train/grad_norm", self.grad_norm.float().cpu())
        self.log("images", torch.tensor(seen, dtype=torch.float64))

    def on_fit_end(self) -> None:
        for group in self.groups:
            group.fit.close()

    # Checkpoints: everything of every process, in the file that the first one writes.

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing: the networks are with the rest of their fits."""
        return {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        mine = {
            group.number: {"fit": group.fit.state_dict(), "optimizer": group.fit.optimizer().state_dict()}
            for group in self.groups
        }
        checkpoint["deep_image_prior"] = {
            "names": self.names,
            "groups": self.plan,
            "states": self.gathered(_on_cpu(mine)),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("deep_image_prior")
        if saved is None:
            raise UserError("the checkpoint is not of a deep image prior: give another --run")
        if list(saved["names"]) != self.names:
            raise UserError(
                f"the checkpoint is of {len(saved['names'])} pictures, the first '{saved['names'][0]}', and the data"
                f" have {len(self.names)}, the first '{self.names[0]}': put the pictures back, or give another --run"
            )
        if saved["groups"] != self.plan:
            self._begin([list(rows) for rows in saved["groups"]])
        for group in self.groups:
            state = saved["states"][group.number]
            group.fit.load_state_dict(state["fit"])
            group.fit.optimizer().load_state_dict(state["optimizer"])
            if self.is_over(group.fit):
                self._over.add(group.number)

    def gathered(self, mine: dict[Any, Any]) -> dict[Any, Any]:
        """The dictionaries of all processes joined, on the first one; its own on every other. All processes must call
        it.
        """
        if self.trainer.world_size == 1:
            return mine
        everyone: list[Any] | None = [None] * self.trainer.world_size if self.trainer.global_rank == 0 else None
        torch.distributed.gather_object(mine, everyone, dst=0)
        return mine if everyone is None else {key: value for part in everyone for key, value in part.items()}


class _EveryFit(torch.optim.Optimizer):
    """The optimisers of all fits as one, for Lightning counts its steps. Its state is theirs, and is saved
    with them.
    """

    def __init__(self, module: DeepImagePrior) -> None:
        super().__init__(module.network.parameters(), {})
        # Not the module itself, which would be its own part's owner when it is copied or shown.
        self._active: Callable[[], list[Group]] = lambda: module.active

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        found = closure() if closure is not None else None
        for group in self._active():
            group.fit.optimizer().step()
        return found

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        del state_dict


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """64-true makes float64 the default type of a step, in which generators draw other numbers; what is computed has
    the type of the measurement anyway.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _moved(measurement: Measurement, device: torch.device, dtype: torch.dtype) -> Measurement:
    truth = None if measurement.truth is None else measurement.truth.to(device, dtype)
    return replace(
        measurement, y=measurement.y.to(device, dtype), operator=measurement.operator.to(device), truth=truth
    )


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {k: _on_cpu(v) for k, v in value.items()}
    return [_on_cpu(v) for v in value] if isinstance(value, (list, tuple)) else value
