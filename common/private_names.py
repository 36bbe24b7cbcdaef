"""Every private name of a library that this project uses: here and nowhere else, each with the reason why.

A private name can be gone in the next version without a word. ``tests/common/test_private_names.py`` holds each of them
against the version that requirements.txt pins, and finds those that stand elsewhere. Nothing is imported here: the
functions act on objects that the caller has.
"""

import argparse
import atexit
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

#: library, version in which it was seen, module, name: what the functions below and two subclasses rely on.
USED = (
    ("python", "3.11", "argparse", "ArgumentParser()._actions"),
    ("python", "3.11", "atexit", "_run_exitfuncs"),
    ("python", "3.11", "sys", "_current_frames"),
    ("torch", "2.13.0", "torch", "_foreach_add_"),
    ("torch", "2.13.0", "torch", "_foreach_copy_"),
    ("torch", "2.13.0", "torch", "_foreach_lerp_"),
    ("torch", "2.13.0", "torch", "_foreach_norm"),
    ("torch", "2.13.0", "torch", "ops.mkldnn._is_mkldnn_bf16_supported"),
    ("torch", "2.13.0", "torch.nn", "Module._compiled_call_impl"),
    (
        "lightning",
        "2.6.6",
        "lightning.pytorch.loops.training_epoch_loop",
        "_TrainingEpochLoop._broadcast_sigterm_tensor",
    ),
    ("lightning", "2.6.6", "lightning.pytorch", "Trainer().fit_loop.epoch_loop._batches_that_stepped"),
    ("lightning", "2.6.6", "lightning.pytorch.strategies", "DDPStrategy()._ddp_kwargs"),
    ("lightning", "2.6.6", "lightning.pytorch.trainer.connectors.signal_connector", "_HandlersCompose"),
    ("lightning", "2.6.6", "lightning.pytorch.cli", "LightningCLI._parser"),
    ("lightning", "2.6.6", "lightning.pytorch.cli", "LightningCLI._parse_ckpt_path"),  # overridden in training/cli.py
    ("lightning", "2.6.6", "lightning.pytorch.cli", "LightningCLI._run_subcommand"),  # overridden in sweeps/check.py
    ("lightning", "2.6.6", "lightning.pytorch.cli", "LightningCLI._set_seed"),  # overridden in sweeps/check.py
    ("lightning", "2.6.6", "lightning.pytorch.loggers", "WandbLogger()._wandb_init"),
    ("peft", "0.21.2", "peft", "LoraConfig._register_custom_module"),
    ("torchmetrics", "1.9.0", "torchmetrics.utilities.prints", "log"),  # torchmetrics._logger, which this file imports
)


def option_strings(parser: argparse.ArgumentParser) -> list[str]:
    """["--config", "-c", ...]: the words that a parser knows, to name the nearest one; argparse lists them nowhere."""
    return [option for action in parser._actions for option in action.option_strings]


def destinations(parser: argparse.ArgumentParser) -> list[str]:
    """The names under which a parser stores what it reads, as "trainer.max_steps"."""
    return [action.dest for action in parser._actions]


def run_exit_functions() -> None:
    """What was registered with atexit, now: before os._exit, which runs nothing."""
    atexit._run_exitfuncs()


def main_thread_place() -> str:
    """ "file.py:12" of the main thread, asked by another one: what a process that hangs is doing."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}" if frame is not None else ""


def foreach_add_(tensors: Sequence["Tensor"], number: float) -> None:
    """t += number for every tensor, in one kernel: what torch.optim uses itself and does not offer."""
    import torch

    torch._foreach_add_(list(tensors), number)  # pyright: ignore[reportPrivateImportUsage]


def foreach_copy_(tensors: Sequence["Tensor"], sources: Sequence["Tensor"]) -> None:
    """t = s for every pair, in one kernel."""
    import torch

    torch._foreach_copy_(list(tensors), list(sources))  # pyright: ignore[reportPrivateImportUsage]


def foreach_lerp_(tensors: Sequence["Tensor"], ends: Sequence["Tensor"], weight: float) -> None:
    """t += weight * (end - t) for every pair, in one kernel: an exponential average of all weights of a network."""
    import torch

    torch._foreach_lerp_(list(tensors), list(ends), weight)  # pyright: ignore[reportPrivateImportUsage]


def foreach_norm(tensors: Sequence["Tensor"], order: float) -> "Sequence[Tensor]":
    """The norm of every tensor, in one kernel: one for each of a network's hundreds of tensors takes longer than the
    step that they belong to.
    """
    import torch

    return torch._foreach_norm(list(tensors), order)  # pyright: ignore[reportPrivateImportUsage]


def mkldnn_multiplies_bfloat16() -> bool:
    """Whether oneDNN has kernels in bfloat16 for this processor; torch asks the same before it takes them."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def compiled_call(network: "nn.Module") -> Any:
    """What ``network.compile()`` stored, None for a network that runs eagerly: torch has no question for it."""
    return network._compiled_call_impl


def set_compiled_call(network: "nn.Module", call: Any) -> None:
    """Put back what :func:`compiled_call` gave; None makes the network eager without forgetting its compilation."""
    network._compiled_call_impl = call


def leave_out_the_sigterm_broadcast(trainer: Any) -> None:
    """Lightning asks all processes before every step whether its own handler saw SIGTERM, and waits for the device to
    know; callbacks/preemption.py replaces that handler, and there is no option to leave the question out.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None


def handlers_in(handler: Any) -> list[Any]:
    """A signal handler, and those that Lightning has put behind one of its own: it does so with whatever it finds when
    a trainer starts, in a class that it keeps to itself.
    """
    return [handler, *getattr(handler, "signal_handlers", ())]


def shift_logged_steps(trainer: Any, by: int) -> None:
    """Lightning counts the steps that loggers are told after a validation; callbacks/step_end.py saves a state of
    before, and there is no other way to it.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped += by


def ddp_options(strategy: Any) -> dict[str, Any]:
    """What a DDPStrategy passes on to torch, which it offers nowhere; nothing for another strategy."""
    return getattr(strategy, "_ddp_kwargs", {})


def subcommand_parser(cli: Any, subcommand: str) -> Any:
    """The parser of ``train.py SUBCOMMAND``, which LightningCLI keeps to itself."""
    return cli._parser(subcommand)


def without_anonymous(logger: Any) -> None:
    """Lightning gives W&B an argument that it warns of, also where it is None, and there is no way to leave it out."""
    logger._wandb_init.pop("anonymous", None)


def register_adapter_layer(config: Any, layers: dict[type, type]) -> None:
    """Layers of our own in place of peft's for a kind of layer; peft documents it as an experiment."""
    config._register_custom_module(layers)


def give_logger(package: Any, logger: Any) -> None:
    """torchmetrics' logger, which its utilities import from a package whose ``__init__`` has not run."""
    package._logger = logger
