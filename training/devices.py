"""What trainer.devices asks for: the one place that reads its forms."""

from typing import Any

import torch

from common.errors import UserError


def chosen_devices(devices: Any) -> list[int] | int | None:
    """The numbers of the devices, or how many, or None for all that there are, as Lightning reads it: 2 and "2" are
    two devices, [0, 1] and "0,1" those two, [1] and "1," the second one, "auto" and -1 all of them.

    Args:
        devices: an option of the trainer.

    Raises:
        UserError: it is none of these forms, no device, or the same one twice.
    """
    value = devices.strip() if isinstance(devices, str) else devices
    if value in ("auto", "-1", -1):
        return None
    if isinstance(value, str) and "," in value:
        value = [word for word in value.split(",") if word.strip()]
    try:
        found = [int(word) for word in value] if isinstance(value, (list, tuple)) else int(value)
    except (TypeError, ValueError):
        raise UserError(
            f"--trainer.devices must be a number of devices, their numbers as 0,1, or auto, got {devices!r}"
        ) from None
    if isinstance(found, int):
        if found < 1:
            raise UserError(f"--trainer.devices must be at least 1, or auto, got {devices}")
    elif not found or min(found) < 0 or len(set(found)) < len(found):
        raise UserError(f"--trainer.devices must name each device once, counted from 0, got {devices}")
    return found


def processes_of(trainer: Any) -> int:
    """How many processes a run has: one per device and node. Where all devices are asked for, those of this machine,
    and at least one.

    Args:
        trainer: the parsed options of the trainer.
    """
    found = chosen_devices(trainer.devices)
    if found is None:
        on_cpu = trainer.get("accelerator") == "cpu"
        found = 1 if on_cpu else max(1, torch.cuda.device_count())
    return (len(found) if isinstance(found, list) else found) * trainer.num_nodes
