"""What train.py and its callbacks ask of everything that is fitted to data, whether it generalises (training) or not
(deep image prior).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from common.averaging import WeightAverage
from common.batch import Batch
from common.sharded import gather, release


class RunModule(pl.LightningModule, ABC):
    """A module around one run folder.

    images_seen: by all processes, an image counted again at every step. averaged: whether callbacks/ema.py averages the
    weights. complete: it has come to an end of its own, so that no larger trainer.max_steps continues it.
    """

    averaged: bool = True
    complete: bool = False
    images_seen: int = 0
    #: Whether each process holds a part of the weights (common/sharded.py).
    sharded: bool = False
    #: The averaged weights; callbacks/ema.py makes and drives it.
    average: WeightAverage | None = None
    _looking: bool = False
    #: Norm of the newest gradient before clipping, on the device; None before the first step.
    grad_norm: Tensor | None = None

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The one module that is fitted."""

    @abstractmethod
    def flops_per_image(self, batch: Batch) -> int:
        """Floating-point operations of one step for one image: three times those of its forward pass, for the backward
        pass does two products for each.
        """

    def non_finite_part(self) -> str | None:
        """A clause that says what of the module is not finite, where it is not a network trained in steps that can be
        repeated; None: nothing known.
        """
        return None

    def look_through_average(self) -> None:
        """From here to :meth:`look_no_more` the network holds its averaged weights, where there are any, and all of
        them on every process, so that each may call it as often as it likes. All processes must come here.
        """
        if not self._looking and self.average is not None:
            self.average.swap()
        if not self._looking and self.sharded:
            gather(self.network)
        self._looking = True

    def look_no_more(self) -> None:
        """The network holds its raw weights again, and each process its part of them."""
        if self._looking and self.sharded:
            release(self.network)
        if self._looking and self.average is not None:
            self.average.swap()
        self._looking = False

    @contextmanager
    def looking_through_average(self) -> Iterator[None]:
        """:meth:`look_through_average` for the time of a block; nothing more inside of another one."""
        inner = self._looking
        self.look_through_average()
        try:
            yield
        finally:
            if not inner:
                self.look_no_more()

    def check_trainer(self, trainer: pl.Trainer) -> None:
        """UserError where an option of the trainer does not suit it."""
        del trainer

    @property
    def trainer_parts(self) -> Any:
        """The trainer, for what Lightning gives it in other places than its class: data module, callbacks, options."""
        return self.trainer

    @property
    def is_logged_step(self) -> bool:
        """After an optimiser step: whether the loggers get a row of it."""
        every = self.trainer_parts.log_every_n_steps
        return every > 0 and self.global_step % every == 0

    def describe_size(self) -> str:
        """What ``--prepare`` says of it."""
        return f"{type(self).__name__}, {sum(p.numel() for p in self.network.parameters()):,} parameters"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images_seen = int(checkpoint.get("images_seen", 0))
