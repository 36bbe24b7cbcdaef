"""--find_batch: how many images of a training batch fit one device at once, and the options that keep the batch."""

from typing import Any

import torch

from callbacks.ema import EMA
from common.errors import UserError
from common.memory import fits
from datamodules.base import ImageDataModule
from lightning_modules.base import TrainedModule
from training.devices import chosen_devices, processes_of
from training.sharded_strategy import is_sharding

#: Of a GPU's memory, that is left alone: fragments, and what validation and other programs need.
SPARE = 0.05


def on_one_device(trainer: Any) -> int:
    """Change the trainer's options to one device of the kind that they ask for; the number of processes of the run."""
    processes, chosen = processes_of(trainer), chosen_devices(trainer.devices)
    trainer.devices = chosen[:1] if isinstance(chosen, list) else 1
    trainer.num_nodes, trainer.strategy = 1, "auto"
    return processes


def find_batch(cli: Any) -> None:
    """Try the steps of a training run, and print the options with which it fits a device.

    A step is tried with all images that one process has of a batch, then with the largest share of them that divides
    it, and so on, until one fits: with the run's network, optimiser, average and precision, and its own images. Of a
    run that shards its network the whole of it is tried, which takes more memory than a part does: said.

    Args:
        cli: the command line: its model, datamodule, trainer, plain_config, and `wanted`, the number of processes of
            the run.

    Raises:
        UserError: not even one image fits, or there is nothing that trains.
    """
    model, data, trainer, options = cli.model, cli.datamodule, cli.trainer, cli.config_init["fit"].trainer
    if not isinstance(model, TrainedModule) or not isinstance(data, ImageDataModule):
        raise UserError(
            f"--find_batch is for networks that are trained, and model is a {type(model).__name__}: leave it out"
        )
    share, processes = data.batch_per_process(cli.wanted), cli.wanted
    data.prepare_data()
    model.trainer = data.trainer = trainer
    setattr(trainer, "datamodule", data)  # noqa: B010  (Lightning sets it outside of the class)
    data.setup("fit")
    model.setup("fit")
    device = trainer.strategy.root_device
    model.compile_network = False  # each size would be compiled anew, and takes less memory then
    model.to(device)
    model.configure_model()
    for callback in trainer.callbacks:
        if isinstance(callback, EMA):
            callback.setup(trainer, model, "fit")
    held = _held_back(model, device, processes)
    size = next((n for n in range(share, 0, -1) if share % n == 0 and fits(lambda n=n: _steps(model, data, n))), None)
    del held
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"this {device.type}"
    sharded = processes > 1 and is_sharding(cli.plain_config["trainer"]["strategy"])
    if size is None and sharded:
        raise UserError(
            f"--find_batch tries the whole network on one device, and not even one image fits {where} beside it:"
            f" sharded over {processes} processes it may, which the run itself shows: begin with"
            f" --data.batch_size {processes}"
        )
    if size is None:
        raise UserError(
            f"--find_batch: not even one image fits {where}: take a smaller network, or"
            " --model.network.checkpoint_gradients true, or several processes with --config configs/cluster/fsdp.yaml"
        )
    if sharded:
        print(f"tried with the whole network on one device: sharded over {processes} processes, more may fit")
    each = f", {share} on each of {processes} processes" if processes > 1 else ""
    if size == share:
        print(f"a batch of {share * processes} images{each} fits {where}: change nothing", flush=True)
        return
    parts = share // size
    print(
        f"of a batch of {share * processes} images{each}, {size} at once fit {where}; a step of as many images, in"
        f" {parts} parts, with the options\n{' '.join(_options(options, size * processes, parts))}",
        flush=True,
    )


def _options(trainer: Any, batch: int, parts: int) -> list[str]:
    """What is counted in batches is so many times as much."""
    found = [
        f"--data.batch_size {batch}",
        f"--trainer.accumulate_grad_batches {parts * trainer.accumulate_grad_batches}",
    ]
    for name in ("val_check_interval", "limit_train_batches"):
        value = trainer.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            found.append(f"--trainer.{name} {parts * value}")
    return found


def _steps(model: TrainedModule, data: ImageDataModule, count: int) -> None:
    """Two steps: the first one makes the optimiser's state."""
    images = data.images("train")
    batch = images.get([i % len(images) for i in range(count)])
    batch = data.on_after_batch_transfer(type(batch)(*(t.to(model.device) for t in batch)), 0)
    optimizer = model.configure_optimizers()["optimizer"]
    try:
        for _ in range(2):
            with model.again(0):
                loss = model.repeat(batch)
            loss.backward()
            optimizer.step()
            if model.average is not None:
                model.average.update(*[0.5] * len(model.average.names))
    finally:
        model.zero_grad(set_to_none=True)


def _held_back(model: TrainedModule, device: torch.device, processes: int) -> torch.Tensor | None:
    """Memory that is not there for the steps: spare, and the buckets in which several processes exchange gradients."""
    if device.type != "cuda":
        return None
    buckets = sum(p.nbytes for p in model.network.parameters() if p.requires_grad) if processes > 1 else 0
    spare = int(SPARE * torch.cuda.get_device_properties(device).total_memory)
    return torch.empty(spare + buckets, dtype=torch.uint8, device=device)
