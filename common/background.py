"""Large files that are written beside training: a copy in memory first, then one thread that writes it."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class BackgroundWriter:
    """Writes one file at a time in a thread; what goes wrong there is raised where somebody asks.

    The thread does not hold up the end of the process: a file that is not waited for may be left a part, which
    common/files.write_atomically keeps beside its place.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def begin(self, write: Callable[[], None]) -> None:
        """Call `write` in the thread, after the one before has ended: an error of that one is raised here."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(write,), daemon=True, name="checkpoint writer")
        self._thread.start()

    def wait(self) -> None:
        """Until all is written; raises what went wrong, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def check(self) -> None:
        """Raise what went wrong in a writing that has ended; waits for nothing."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # for whoever asks
            self._error = error


def bytes_of(content: Any) -> int:
    """Of all tensors in nested dictionaries, lists and tuples, memory that several share counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors(content)}
    return sum(storages.values())


def copied_to_host(content: Any) -> Any:
    """A deep copy, tensors in the host's memory; those that share memory share it again, so that the same file is
    written.
    """
    storages: dict[int, torch.UntypedStorage] = {}
    copies = {id(t): _copied(t, storages) for t in _tensors(content)}
    return copy.deepcopy(content, copies)


def _tensors(content: Any) -> list[Tensor]:
    if isinstance(content, Tensor):
        return [content]
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple)) else ()
    return [t for part in inner for t in _tensors(part)]


def _copied(tensor: Tensor, storages: dict[int, torch.UntypedStorage]) -> Tensor:
    storage = tensor.untyped_storage()
    key = storage.data_ptr()
    if key not in storages or not key:  # an empty tensor has no place
        storages[key] = storage.clone() if storage.device.type == "cpu" else storage.cpu()
    there = torch.empty(0, dtype=tensor.dtype)
    there.set_(storages[key], tensor.storage_offset(), tensor.shape, tensor.stride())
    return torch.nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else there
