"""Priors with adapters, wherever a prior is read: from a checkpoint that holds adapters only, and from a config that
names adapters beside a prior.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from checkpoints.foreign.import_diffusers import is_hub_name
from checkpoints.lora.files import KEY, AdapterEntry, Base, adapter_fingerprint, adapter_of_checkpoint, read_adapter
from checkpoints.lora.merging import merged, widened
from common.build import PROJECT
from common.errors import UserError

#: prior_weights(path, weights=, preset=): the weights of any prior by its network's own names.
PriorWeights = Callable[..., dict[str, Tensor]]

_reading: ContextVar[tuple[Path, ...]] = ContextVar("checkpoints that are being read", default=())


def adapted_weights(
    content: dict[str, Any], path: Path, *, weights: str, prior_weights: PriorWeights
) -> dict[str, Tensor]:
    """The weights of a checkpoint of adapters: those of the prior that it names, found where it was or in this project,
    with the adapter added, float32.

    prior_weights: reads the prior beneath, checkpoints/load.py. UserError where that prior is missing or not the one
    that the adapter was trained beside.
    """
    where = f"the checkpoint '{path}'"
    adapter = adapter_of_checkpoint(content, path, weights=weights)
    try:
        base = Base(**content[KEY]["base"])
        base_path = Path(base.path)
    except TypeError as error:
        raise UserError(f"{where} does not describe its prior: it is incomplete, train it again") from error
    places = [
        p for p in dict.fromkeys((base_path, PROJECT / base_path)) if p.exists() or (p == base_path and is_hub_name(p))
    ]
    if not places:
        raise UserError(
            f"{where} holds an adapter of the prior '{base.path}', which is not there: put it back, or give the prior's"
            " new path as --prior and this checkpoint as one of its adapters (priors.NAME.adapters)"
        )
    with _inside(path):
        found = prior_weights(places[0], weights=base.weights, preset=base.preset)
    if base.images != 1:
        found = widened(found, base.images)
    return merged(found, [(adapter, 1.0)], where=where)


def adapt(network: nn.Module, entries: Sequence[AdapterEntry], *, weights: str = "ema") -> str:
    """Merge adapters into a plain network, in place, so that it costs what it did; what they add to the fingerprint of
    its prior.

    weights: "ema" or "raw" of adapters in checkpoints. UserError where one does not fit.
    """
    if not entries:
        return ""
    where = " and ".join(f"the adapter '{e.path}'" for e in entries)
    state = merged(
        network.state_dict(), [(read_adapter(e.path, weights=weights), e.scale) for e in entries], where=where
    )
    network.load_state_dict(state)
    return "".join(f"+{_exact(e.scale)}*{adapter_fingerprint(e.path, weights=weights)}" for e in entries)


def _exact(scale: float) -> str:
    """0.5 as "0.5", 1.0 as "1", and all digits of those that have more."""
    short = f"{scale:g}"
    return short if float(short) == scale else repr(scale)


@contextmanager
def _inside(path: Path) -> Iterator[None]:
    """UserError where reading a checkpoint leads back to itself."""
    path = path.resolve()
    if path in _reading.get():
        raise UserError(f"the checkpoint '{path}' names itself as the prior that it adapts: it is damaged")
    token = _reading.set((*_reading.get(), path))
    try:
        yield
    finally:
        _reading.reset(token)
