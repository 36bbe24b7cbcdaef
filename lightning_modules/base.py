"""What everything that is trained shares: optimiser, warm-up, the clock of images, random numbers of a step,
checkpoints that describe themselves.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.optim.lr_scheduler import LambdaLR

from common.batch import Batch
from common.compute import count_flops, warn_of_slow_bfloat16
from common.errors import UserError
from common.private_names import compiled_call, set_compiled_call
from common.sharded import shard, whole
from datamodules.base import ImageDataModule
from lightning_modules.run_module import RunModule


class TrainedModule(RunModule):
    """A network in training: a leaf says what the loss of a batch is and how a checkpoint describes it.

    Every step draws from a generator keyed by (seed, images seen), so that a run that was stopped goes on with the
    numbers it would have drawn, and noise is drawn for the global batch and sliced, so that it does not depend on
    the number of processes. Between two logged steps the host never waits for the device. Logged every
    log_every_n_steps: train/loss, the mean over the global batch of that step, accumulated parts included;
    train/grad_norm before clipping; images. A step whose gradient is not finite leaves weights and optimiser as they
    are; callbacks/finite_loss.py then ends the run.

    Args:
        learning_rate: of AdamW; weight_decay 0 is Adam.
        weight_decay: of AdamW; weight_decay 0 is Adam.
        betas: of AdamW; weight_decay 0 is Adam.
        warmup_steps: the learning rate grows linearly over so many optimiser steps.
        seed: of the noise, times and dropout of training.
        channels_last: memory format of the network.
        compile: compile the network in place.
        fused: its step as one kernel over all tensors.
        tf32: on GPUs since Ampere compute products and convolutions of float32 in TF32, which keeps ten bits of the
            mantissa and is several times as fast; null (default): as torch does, convolutions so and products not.
    """

    def __init__(
        self,
        *,
        learning_rate: float = 2e-4,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        warmup_steps: int = 1000,
        seed: int = 0,
        channels_last: bool = False,
        compile: bool = False,
        fused: bool = True,
        tf32: bool | None = None,
    ) -> None:
        super().__init__()
        if not learning_rate > 0 or weight_decay < 0 or warmup_steps < 0:
            raise UserError(
                f"learning_rate must be positive, weight_decay and warmup_steps at least 0, got {learning_rate},"
                f" {weight_decay}, {warmup_steps}"
            )
        self.learning_rate, self.weight_decay, self.betas, self.warmup_steps = (
            learning_rate,
            weight_decay,
            tuple(betas),
            warmup_steps,
        )
        self.seed, self.channels_last, self.compile_network, self.fused = seed, channels_last, compile, fused
        self.tf32 = tf32
        self._losses: list[Tensor] = []  # of the parts of the present optimiser step
        self._stepped = 0

    # What a leaf says.

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The one module that is trained, averaged and released."""

    @property
    @abstractmethod
    def data_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that it is trained on."""

    @abstractmethod
    def losses(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss of every image of the batch, [B]; `generator` gives the noise of this step."""

    @abstractmethod
    def descriptions(self, data: str) -> dict[str, Any]:
        """What a checkpoint says of itself, by key ("prior", "classifier"), as plain dictionaries; `data`: name of the
        data set.
        """

    # When things happen.

    def setup(self, stage: str) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None and not isinstance(datamodule, ImageDataModule):
            raise UserError(
                f"model is a {type(self).__name__}, which is trained, and data is a {type(datamodule).__name__}, whose"
                " pictures are restored one by one: give a data set of datamodules/, such as"
                " datamodules.image_folder.ImageFolder"
            )
        if (
            datamodule is not None
            and stage in ("fit", "validate", "test")
            and tuple(datamodule.shape) != tuple(self.data_shape)
        ):
            raise UserError(
                f"model.data_shape is {list(self.data_shape)}, but {type(datamodule).__name__} has images of"
                f" {list(datamodule.shape)}: make them equal"
            )

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not self.sharded:
            device = self.trainer.strategy.root_device.type
            shard(self.network, init_device_mesh(device, (self.trainer.world_size,)))
            self.sharded = True
        if self.channels_last and not self.sharded:  # parts of a weight lie contiguously
            self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (torch's overloads leave it out)
        if self.compile_network and compiled_call(self.network) is None:
            self.network.compile()

    def on_fit_start(self) -> None:
        if self.tf32 is not None:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32

    def on_train_start(self) -> None:
        if str(self.trainer.precision).startswith("bf16"):
            warn_of_slow_bfloat16(self.device.type)
        self._stepped = self.global_step

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        del batch_idx
        loss = self._mean_loss(batch)
        self.images_seen += len(batch.image) * self.trainer.world_size
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        del outputs, batch, batch_idx
        if self.global_step == self._stepped:  # gradients are still being accumulated
            return
        losses, self._losses, self._stepped = self._losses, [], self.global_step
        if not self.is_logged_step:
            return
        assert self.grad_norm is not None  # a step was taken
        values = torch.stack([torch.stack(losses).float().mean(), self.grad_norm.float()])
        # the one look at the device, once every log_every_n_steps
        values = self.trainer.strategy.reduce(values, reduce_op="mean").cpu()
        # As tensors of the host: Lightning turns what the bar shows into a number after every step, which would wait
        # for the device every time.
        self.log("train/loss", values[0], prog_bar=True)
        self.log("train/grad_norm", values[1])
        self.log("images", torch.tensor(self.images_seen, dtype=torch.float64))

    def _mean_loss(self, batch: Batch) -> Tensor:
        # One seed for what the network itself draws (dropout), per process; another for the noise, common to all
        # processes.
        torch.manual_seed(self._key("dropout", self.global_rank))
        generator = torch.Generator(device=batch.image.device).manual_seed(self._key("noise"))
        return self.losses(batch, generator).mean()

    @contextmanager
    def again(self, images_seen: int) -> Iterator[None]:
        """Inside the block ``repeat(batch)`` is the loss of the step that began at `images_seen`, with its noise and
        dropout and this run's precision.

        Nothing is logged, the network runs eagerly (so that its layers can be watched), and the clock and the global
        generators are put back.
        """
        seen, compiled = self.images_seen, compiled_call(self.network)
        buffers = [(b, b.clone()) for b in self.network.buffers()]
        devices = [self.device] if self.device.type == "cuda" else []
        self.images_seen = images_seen
        set_compiled_call(self.network, None)
        self.log = self.log_dict = lambda *_, **__: None  # hides the methods while the block runs
        try:
            with torch.random.fork_rng(devices=devices), self.trainer.precision_plugin.forward_context():
                yield
        finally:
            del self.log, self.log_dict
            self.images_seen = seen
            set_compiled_call(self.network, compiled)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)

    def repeat(self, batch: Batch) -> Tensor:
        """The mean loss of a step's batch once more; only inside :meth:`again`."""
        return self._mean_loss(batch)

    def flops_per_image(self, batch: Batch) -> int:
        few = Batch(*(t[:2] for t in batch))  # two: batch normalisation refuses one
        with self.again(self.images_seen):
            return 3 * count_flops(lambda: self.repeat(few)) // len(few.image)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips, and takes the norm once for clipping, logs and health. Own because Lightning refuses to clip for a
        fused optimiser in mixed precision.
        """
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # Lightning has done it for optimisers that are not fused
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if gradient_clip_val and gradient_clip_algorithm != "value":
            self.grad_norm = whole(torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val).detach())
        else:
            self.grad_norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters]))
            if gradient_clip_val:
                torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        if scaler is not None:
            return  # it skips such steps itself, and lowers the scale
        if optimizer.param_groups[0].get("fused"):
            # the kernel reads it on the device and skips the step
            setattr(optimizer, "found_inf", (~torch.isfinite(self.grad_norm)).float())  # noqa: B010  (undeclared)
        elif self.grad_norm.device.type == "cpu" and not torch.isfinite(self.grad_norm):
            optimizer.zero_grad(set_to_none=True)  # nothing to step with

    def configure_optimizers(self) -> dict[str, Any]:
        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay, "betas": self.betas}
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=self.fused or None, **options)
        warmup = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, self.warmup_steps)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warmup, "interval": "step"}}

    def global_noise(self, shape: tuple[int, ...], generator: torch.Generator, *, uniform: bool = False) -> Tensor:
        """Noise [B, *] for this process: drawn for the batches of all processes and sliced, so that it is the same on
        one process and on several.
        """
        draw = torch.rand if uniform else torch.randn
        return self.of_this_process(
            draw((self.trainer.world_size * shape[0], *shape[1:]), generator=generator, device=generator.device)
        )

    def of_this_process(self, drawn: Tensor) -> Tensor:
        """This process's share [B, *] of what was drawn for the batches of all processes."""
        share = len(drawn) // self.trainer.world_size
        return drawn[self.global_rank * share : (self.global_rank + 1) * share]

    def _key(self, *parts: object) -> int:
        text = "\0".join(map(str, (self.seed, self.images_seen, *parts)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        checkpoint.update(self.descriptions(type(datamodule).__name__ if datamodule is not None else "unknown"))
        super().on_save_checkpoint(checkpoint)
        if self.average is not None:
            # A checkpoint may be written while the average is inside the network: state_dict holds the raw weights
            # always.
            prefix = next(n for n, m in self.named_modules() if m is self.network) + "."
            checkpoint["state_dict"].update({prefix + n: v for n, v in self.average.raw_state().items()})
            checkpoint["ema"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        for state in checkpoint.get("optimizer_states", []):
            for group in state["param_groups"]:
                group["fused"] = self.fused or None  # how the step is computed is this config's, not the file's
        if self.average is not None:
            if "ema" not in checkpoint:
                raise UserError("the checkpoint has no averaged weights: set ema.enabled to false, as it was trained")
            try:
                self.average.load_state_dict(checkpoint["ema"])
            except ValueError as error:
                raise UserError(f"{error}: set ema as it was trained") from error
