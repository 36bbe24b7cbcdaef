"""torch's cache of downloads with one file of ours, so that a library finds its weights where it looks for them."""

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from common.errors import UserError


@contextlib.contextmanager
def hub_with(file: Path, *, name: str = "") -> Iterator[None]:
    """The cache is a folder with this file alone, under `name` (its own unless given).

    The file is looked at first: libraries unpickle it, and only tensors and plain values pass here.

    Raises:
        UserError: not a file of tensors, or one whose names and shapes the library refuses.
    """
    try:
        torch.load(file, map_location="meta", weights_only=True)
    except Exception as error:  # what is no pickle ends it in any way
        raise UserError(
            f"'{file}' is not a file of weights, or is damaged: delete it and fetch it again (evaluate.py --prepare)"
        ) from error
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about the libraries' way to ask for weights
        (Path(folder) / "checkpoints").mkdir()
        (Path(folder) / "checkpoints" / (name or file.name)).symlink_to(file.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        except (RuntimeError, KeyError, AttributeError) as error:
            raise UserError(
                f"'{file}' does not hold the weights that its name says: delete it and fetch it again (evaluate.py"
                " --prepare)"
            ) from error
        finally:
            torch.hub.set_dir(before)
