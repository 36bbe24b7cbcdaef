"""Trains networks whose weights, gradients and optimiser's state are too large for one device: each process holds a
part of them.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    StrategyRegistry,
)
from lightning.pytorch.strategies.parallel import ParallelStrategy
from torch import Tensor

from common.errors import UserError
from common.private_names import ddp_options
from common.sharded import parted, whole
from lightning_modules.base import TrainedModule
from lightning_modules.lora_fine_tuning import LoRAFineTuning
from lightning_modules.run_module import RunModule


class Sharded(ModelParallelStrategy):
    """Fully sharded data parallel training (FSDP2): TrainedModule.configure_model shards the network.

    Checkpoints are the files that one process writes, whole: a run goes on with or without sharding, on any number of
    processes. Lightning's own strategy would shard over the devices of a node only if they were told to do tensor
    parallelism, name the optimiser's state otherwise than DDP does, and read and write past this project's files.

    While validation and drawing look through the averaged weights, every process holds all of them (see
    RunModule.look_through_average). Writing a checkpoint puts them together in the first process's memory.

    Args:
        timeout_s: seconds after which processes that wait for another one give up.

    Raises:
        UserError: a model that is not trained in steps, or is compiled.
    """

    def __init__(self, *, timeout_s: int = 1800) -> None:
        super().__init__(save_distributed_checkpoint=False, timeout=timedelta(seconds=timeout_s))

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return False  # the network is sharded already when it is configured: callbacks are told before they begin

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    # What is saved: whole tensors on the host of the first process, by the names that one process gives them.

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self._kept(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        state = getattr(optimizer, "optimizer", optimizer).state_dict()
        return {**state, "state": {k: self._kept(v) for k, v in state["state"].items()}}

    def _kept(self, values: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = whole(value.detach())  # all processes must come; one tensor at a time, not to need the memory
                value = value.cpu() if self.is_global_zero else None
            found[name] = value
        return found if self.is_global_zero else {}

    # What is read: the same file by every process, which keeps its part.

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        module = self.lightning_module
        assert module is not None
        here = module.state_dict()
        stored = {n: parted(v, like=here[n]) if n in here else v for n, v in checkpoint["state_dict"].items()}
        module.load_state_dict(stored, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, stored in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state = {
                k: {
                    n: parted(v, like=parameters[k]) if isinstance(v, Tensor) and v.shape == parameters[k].shape else v
                    for n, v in values.items()
                }
                for k, values in stored["state"].items()
            }
            optimizer.load_state_dict({**stored, "state": state})


def is_sharding(option: Any) -> bool:
    """Whether trainer.strategy, as a config has it, asks for :class:`Sharded`."""
    name = option.get("class_path", "") if isinstance(option, Mapping) else option
    return name in ("sharded", f"{Sharded.__module__}.{Sharded.__name__}")


StrategyRegistry.register("sharded", Sharded, description="FSDP2, with checkpoints of one file")


def check_strategy(model: RunModule, trainer: pl.Trainer) -> None:
    """UserError where the strategy does not suit the model, or the trainer's other options."""
    strategy = trainer.strategy
    if ddp_options(strategy).get("static_graph") and trainer.accumulate_grad_batches > 1:
        raise UserError(
            f"--trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}, and torch's static_graph takes"
            " one batch a step: leave out static_graph of trainer.strategy"
        )
    if not isinstance(strategy, (ModelParallelStrategy, FSDPStrategy, DeepSpeedStrategy)):
        return
    if not isinstance(strategy, Sharded):
        raise UserError(
            f"--trainer.strategy {type(strategy).__name__} knows nothing of this project's averages and checkpoints:"
            " give sharded"
        )
    if not isinstance(model, TrainedModule):
        raise UserError(
            f"--trainer.strategy sharded is for one large network, and a {type(model).__name__} fits one to each"
            " picture: leave it out"
        )
    if isinstance(model, LoRAFineTuning):
        raise UserError(
            f"--trainer.strategy sharded: {type(model).__name__} trains an adapter, whose files are written by one"
            " process that holds all of it: leave it out"
        )
    if model.compile_network:
        raise UserError("model.compile is true, and sharded networks are not compiled here: set it to false")
    if str(trainer.precision) == "16-mixed":
        raise UserError(
            "--trainer.precision 16-mixed scales losses, which sharded networks are not trained with here: give"
            " bf16-mixed or 32-true"
        )
