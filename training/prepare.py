"""--prepare: what a login node with internet does, so that the nodes that train need none, and find no mistake in the
config.
"""

from collections.abc import Callable
from typing import Any, Protocol

from common.errors import UserError
from common.run_folder import RunFolder
from common.wandb_options import WandbOptions
from training.cost import cost_in_words
from training.devices import processes_of


class Prepared(Protocol):
    """What is looked at: the parsed config, what was built of it, the run folder and the processes that it asks for."""

    config_init: Any
    datamodule: Any
    model: Any
    trainer: Any
    run: RunFolder
    plain_config: dict[str, Any]
    wanted: int


def on_this_machine(trainer: Any) -> int:
    """Change the trainer's options so that it can be built without the accelerators; the number of processes that they
    ask for; of "all devices", those of this machine.
    """
    processes = processes_of(trainer)
    trainer.accelerator, trainer.devices, trainer.num_nodes, trainer.strategy, trainer.precision = (
        "cpu",
        1,
        1,
        "auto",
        None,
    )
    return processes


def prepare(cli: Prepared) -> None:
    """Fetch and check the data, the networks that callbacks load and the config, print a list, train nothing; UserError
    where something is missing.
    """
    options, data, model, trainer = cli.config_init["fit"], cli.datamodule, cli.model, cli.trainer
    missing: list[str] = []

    def check(name: str, look: Callable[[], str]) -> None:
        try:
            found = look()
        except UserError as error:
            missing.append(name)
            found = f"MISSING: {error}"
        print(f"  {name:<12} {found}", flush=True)

    def network() -> str:
        if "data" in missing:
            return "not checked: it must suit the data"
        model.trainer = trainer
        setattr(trainer, "datamodule", data)  # noqa: B010  (Lightning sets it outside of the class)
        model.setup("fit")
        return model.describe_size()

    def cost() -> str:
        return "not known: the network was not built" if missing else cost_in_words(model, data, trainer)

    def others() -> str:
        for callback in getattr(trainer, "callbacks"):  # noqa: B009  (as above)
            callback.setup(trainer, model, "fit")
        features = options.quality.features
        return f"features {features}" if features and options.quality.num_images else "none needed"

    def logs() -> str:
        mode = WandbOptions(**vars(options.wandb)).resolved_mode()
        hint = {
            "offline": " (no key is set, or offline was asked for): send it later with wandb sync",
            "disabled": ": metrics.csv only",
        }
        return f"{mode}{hint.get(mode, ': the nodes that train must reach the server, else the run logs offline')}"

    def folder() -> str:
        cli.run.compare(cli.plain_config)
        return f"'{cli.run.path}', {'goes on from its checkpoint' if cli.run.last_checkpoint else 'new'}"

    print("needed by this config:")
    looks = {
        "data": data.contents,
        "network": network,
        "cost": cost,
        "measures": others,
        "batch": lambda: data.sharing(cli.wanted),
        "W&B": logs,
        "run folder": folder,
    }
    for name, look in looks.items():
        check(name, look)
    if missing:
        raise UserError(
            f"{', '.join(missing)}: missing or refused, see the list above; mend it and run the same command again"
        )
    print("ready: submit it")
