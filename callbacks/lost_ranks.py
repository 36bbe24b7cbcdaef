"""Ends a job of several processes when one of them is lost or hangs: all of them, within a minute, with its name."""

import os
import re
import sys
from typing import Any

import lightning.pytorch as pl
import torch
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]  (documented so)

from callbacks.preemption import Preempted
from common.errors import EXIT_LOST, UserError, fail
from common.rank_watch import BACKWARD, DATA, ELSEWHERE, FORWARD, OPTIMISER, RankWatch

# What a process is told whose partner has gone: gloo has no type for it.
_GONE = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")


class LostRanks(pl.Callback):
    """A process that was killed, stopped or whose node is gone is lost; one that stays in a step while the others wait
    for it hangs. The others, which torch lets wait for half an hour, say which rank it is, end it where it is on their
    machine, and end with exit code 1. A checkpoint, a grid or a validation may take as long as it likes.

    Args:
        patience_s: seconds without a word, or in one place of a step, after which a process is lost; ten times the
            longest step where that is more, and five times as long for reading data; null: never.

    Raises:
        UserError: a patience that is not positive.
    """

    def __init__(self, *, patience_s: float | None = 45.0) -> None:
        if patience_s is not None and patience_s <= 0:
            raise UserError(f"lost_ranks.patience_s must be positive, or null, got {patience_s}")
        self.patience_s = patience_s
        self._watch: RankWatch | None = None
        self._step, self._inner = 1, lambda action: None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.patience_s is None or trainer.world_size == 1:
            return
        strategy: Any = trainer.strategy
        first, store = trainer.global_rank == 0, None
        address, watch, why = strategy.cluster_environment.main_address, None, "the first process has no store"
        if first:
            try:
                store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
            except (RuntimeError, OSError) as error:
                why = str(error)
        port = strategy.broadcast(store.port if store is not None else None)  # all come here, whatever failed
        try:
            if store is None and port is not None:
                store = TCPStore(address, port, is_master=False)
            if store is not None:
                watch = RankWatch(store, trainer.global_rank, trainer.world_size, patience=self.patience_s)
        except (RuntimeError, OSError) as error:  # no second port between the nodes
            why = str(error)
        if watch is None:
            print(f"lost processes are not watched for ({' '.join(why.split())[:120]})", flush=True)
        if not strategy.reduce_boolean_decision(watch is not None, all=True) or watch is None:
            return
        self._watch = watch
        watch.start()
        # Lightning has no hook around the loader; its profiler is told when the loop asks for a batch.
        profiler = getattr(trainer, "profiler")  # noqa: B009  (Lightning sets it outside of the class)
        self._inner, profiler.start = profiler.start, self._started

    def _started(self, action: str) -> None:
        self._inner(action)
        if action.endswith("train_dataloader_next"):
            self._at(DATA, batch=True)

    def _at(self, place: int, trainer: pl.Trainer | None = None, *, batch: bool = False) -> None:
        if self._watch is not None:
            self._step = trainer.global_step + 1 if trainer is not None else self._step
            self._watch.at(place, batch=batch, step=self._step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._at(FORWARD, trainer)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        self._at(BACKWARD, trainer)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._at(OPTIMISER, trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._at(ELSEWHERE, trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._leave(trainer, failed=False)  # not before: the last checkpoint is written when training has ended

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        watch = self._watch
        if trainer.world_size > 1 and _is_of_a_partner(exception):
            if watch is None:  # before the first step, or nobody watches: who it is cannot be told
                _end_without_a_name(trainer, exception)
            elif (found := watch.why_gone()) is not None:
                watch.end_for(*found)
            else:
                watch.wait()  # it ends this process when it knows
        self._leave(trainer, failed=not isinstance(exception, (Preempted, KeyboardInterrupt)))

    def _leave(self, trainer: pl.Trainer, *, failed: bool) -> None:
        if self._watch is not None:
            vars(getattr(trainer, "profiler")).pop("start", None)  # noqa: B009
            self._watch.leave(failed=failed)
            self._watch = None


def _is_of_a_partner(exception: BaseException) -> bool:
    """Whether it says that another process no longer takes part."""
    words = str(exception).lower()
    return isinstance(exception, RuntimeError) and any(word in words for word in _GONE)


def _end_without_a_name(trainer: pl.Trainer, exception: BaseException) -> None:
    """One sentence in place of a trace: the mistake is the other process's, which says it."""
    words = re.sub(r"^\[\S+\] ", "", " ".join(str(exception).split())).partition(". ")[0][:160]  # no line of C++
    fail(
        f"rank {trainer.global_rank} of {trainer.world_size}: another process has ended, see its message, or cannot be"
        f" reached ({words}): this job ends; the same command again goes on, or begins anew"
    )
    sys.stdout.flush()
    os._exit(EXIT_LOST)
