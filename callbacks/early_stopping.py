"""Ends a run when every picture has stopped, says why each did, and logs what its criterion monitors."""

import lightning.pytorch as pl
import torch

from lightning_modules.deep_image_prior import DeepImagePrior, Group


class EarlyStopping(pl.Callback):
    """A thin Lightning side of restoration/stopping/: the criterion itself decides inside the fit. Does nothing for a
    model that is trained.

    Args:
        every_n_steps: how often several processes ask each other whether all have stopped (one process: every step).
        verbose: print why a picture stopped. Logged every log_every_n_steps, of the pictures of the first process:
            stopping/<value>, as the criterion names what it monitors, the mean over pictures that have a number;
            stopping/stopped: how many pictures of all processes have stopped.
    """

    def __init__(self, *, every_n_steps: int = 10, verbose: bool = True) -> None:
        self.every_n_steps, self.verbose = max(1, every_n_steps), verbose
        self._told: set[int] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: DeepImagePrior) -> None:
        if isinstance(pl_module, DeepImagePrior):
            self._told = {group.rows[k] for group, k in pl_module.pictures if _over(group, k)}
            self._end(trainer, pl_module)  # killed between its last checkpoint and its end

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: DeepImagePrior, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not isinstance(pl_module, DeepImagePrior):
            return
        # a look waits for the device
        if pl_module.is_logged_step or pl_module.device.type == "cpu" or not pl_module.active:
            over = {group.rows[k]: (group, k) for group, k in pl_module.pictures if _over(group, k)}
            for row in sorted(set(over) - self._told):
                group, k = over[row]
                if self.verbose:
                    print(f"{group.names[k]}: {group.fit.reason(k)}", flush=True)
            self._told |= set(over)
        if pl_module.is_logged_step:
            self._log(trainer, pl_module, len(self._told))
        if trainer.world_size == 1 or trainer.global_step % self.every_n_steps == 0:
            self._end(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: DeepImagePrior, stopped: int) -> None:
        count = torch.tensor(float(stopped), device=pl_module.device)
        count = trainer.strategy.reduce(count, reduce_op="sum") if trainer.world_size > 1 else count
        pl_module.log("stopping/stopped", count.cpu())
        found: dict[str, list[torch.Tensor]] = {}
        for group in pl_module.active:
            for name, value in group.fit.watch.values.items():
                found.setdefault(name, []).append(value.float().flatten())
        for name, values in found.items():
            joined = torch.cat(values)
            joined = joined[torch.isfinite(joined)]
            if len(joined):
                pl_module.log(f"stopping/{name}", joined.mean().cpu())

    def _end(self, trainer: pl.Trainer, pl_module: DeepImagePrior) -> None:
        over = not pl_module.active
        if trainer.world_size > 1:
            over = trainer.strategy.reduce_boolean_decision(over, all=True)
        if over:
            pl_module.complete = trainer.should_stop = True


def _over(group: Group, k: int) -> bool:
    return bool(group.fit.stopped[k]) or group.fit.iteration >= group.fit.settings.iterations
