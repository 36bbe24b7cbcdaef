"""Lets torchmetrics be imported without the half of it that nothing here asks for.

Lightning imports torchmetrics for one base class. The package's ``__init__`` then imports every metric: those of text
bring transformers, those of images torchvision and torch's compiler, those of sound scipy.signal, which is five of the
seven CPU seconds that ``import lightning`` takes. Import this module before Lightning: the package then stands in
``sys.modules`` with its ``__init__`` still to run. The names that Lightning and this project take are read from the
files that define them; any other name runs the whole ``__init__`` first. Nothing is replaced: every class is
torchmetrics' own, and code that knows nothing of this works as before.
"""

import importlib
import importlib.util
import logging
import sys
import threading
from types import ModuleType
from typing import Any

from common.private_names import give_logger

#: name in torchmetrics -> public module that defines it.
DEFINED_IN = {
    "Metric": "torchmetrics.metric",
    "MetricCollection": "torchmetrics.collections",
    "MeanMetric": "torchmetrics.aggregation",
    "__version__": "torchmetrics.__about__",
}

_lock = threading.RLock()
_started = False


class _Package(ModuleType):
    """torchmetrics before its ``__init__`` has run; Python calls ``__getattr__`` only for names that are not there."""

    def __getattr__(self, name: str) -> Any:
        if name in DEFINED_IN:
            importlib.import_module("torchmetrics.utilities")  # first, as in its own order: its files form a circle
            value = getattr(importlib.import_module(DEFINED_IN[name]), name)
            setattr(self, name, value)
            return value
        if name.startswith("__"):  # what inspect and pickle ask every module for
            raise AttributeError(f"module 'torchmetrics' has no attribute '{name}'")
        _run_init(self)
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module 'torchmetrics' has no attribute '{name}'") from None


def _run_init(package: ModuleType) -> None:
    global _started
    with _lock:
        if _started:
            return
        _started = True
        import common.torchvision_remedy  # noqa: F401  (its metrics of images import torchvision)

        assert package.__spec__ is not None and package.__spec__.loader is not None
        package.__spec__.loader.exec_module(package)


def apply() -> bool:
    """Put the package into ``sys.modules``; False where it is imported already or not installed."""
    if "torchmetrics" in sys.modules:
        return False
    spec = importlib.util.find_spec("torchmetrics")
    if spec is None or spec.loader is None:
        return False
    package = importlib.util.module_from_spec(spec)
    package.__class__ = _Package
    give_logger(package, logging.getLogger("torchmetrics"))  # the same object as in its __init__
    sys.modules["torchmetrics"] = package
    return True


apply()
