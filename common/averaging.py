"""Averages of weights during training: the functional core of callbacks/ema.py. The arithmetic of power profiles is in
common/power_profile.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from common.private_names import foreach_lerp_
from common.sharded import is_sharded, local, parted, whole


def decay_of(images_per_step: int, images_seen: int, *, half_life_images: float, ramp: float | None) -> float:
    """d = 0.5^(images_per_step / h), h = min(half_life_images, ramp * images_seen): the decay of one update, measured
    in images.

    ramp None: no warm-up. Karras et al. 2022 (2206.00364), training loop; d = 0 at the first image, thus no start-up
    bias.
    """
    half_life = half_life_images if ramp is None else min(half_life_images, ramp * images_seen)
    return 0.5 ** (images_per_step / half_life) if half_life > 0 else 0.0


class WeightAverage:
    """theta_bar_k <- d_k theta_bar_k + (1 - d_k) theta, for the parameters of one module; float32 whatever the
    parameters are.

    names: one per average that is kept, (None,) for a single one. The first is "the" average: the one that is looked
    through and saved under "weights".

    Only parameters that are trained (requires_grad when it is made): those beside an adapter stay as they are, and
    buffers are constants here, which averaging has broken samplers of other projects. ``swapped()`` puts the first
    average into the module for the time of a block; raw and averaged weights are told apart by one flag, so that a
    checkpoint written inside the block is right too. Of parameters that several processes share (common/sharded.py)
    each averages its part; states are whole, and all processes must come to ask for one. ValueError where nothing is
    trained.
    """

    def __init__(self, module: nn.Module, names: Sequence[str | None] = (None,)) -> None:
        if not names or len(set(names)) != len(names):
            raise ValueError(f"names must differ, and there must be one at least, got {list(names)}")
        self._module, self.names = module, tuple(names)
        self._trained = [n for n, p in module.named_parameters() if p.requires_grad]
        if not self._trained:
            raise ValueError("nothing of the module is trained, so there is nothing to average")
        self._like = self._parameters()  # how they are parted, also while the module holds whole ones
        self._averages = [[local(p.detach()).float().clone() for p in self._like] for _ in self.names]
        self._parted = is_sharded(self._like[0])
        self._raw: list[Tensor] | None = None
        self.updates = 0

    @property
    def is_swapped(self) -> bool:
        """Whether the module holds the first average at present."""
        return self._raw is not None

    @torch.no_grad()
    def update(self, *decays: float) -> None:
        """One step of every average towards the module's present parameters, a decay for each; RuntimeError while
        swapped.
        """
        if self.is_swapped:
            raise RuntimeError("the average cannot be updated while it is swapped into the module")
        parameters = self._local_parameters()
        if any(p.dtype != torch.float32 for p in parameters):
            parameters = [p.float() for p in parameters]
        for average, decay in zip(self._averages, decays, strict=True):
            foreach_lerp_(average, parameters, 1 - decay)  # one kernel for all tensors
        self.updates += 1

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the module's parameters with the first average (before the first update they are equal)."""
        parameters = self._local_parameters()
        if self._raw is None:
            self._raw = [p.clone() for p in parameters]
            for p, average in zip(parameters, self._averages[0], strict=True):
                p.copy_(average)
        else:
            for p, raw in zip(parameters, self._raw, strict=True):
                p.copy_(raw)
            self._raw = None

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The first average inside the module for the time of the block; nested blocks do nothing more."""
        inner = self.is_swapped
        if not inner:
            self.swap()
        try:
            yield
        finally:
            if not inner:
                self.swap()

    def tensors(self) -> list[Tensor]:
        """All averages, as they are kept."""
        return [t for average in self._averages for t in average]

    def raw_state(self) -> dict[str, Tensor]:
        """The raw parameters by the module's names, swapped or not."""
        raw = self._raw if self._raw is not None else self._local_parameters()
        return dict(zip(self._parameter_names(), self._whole(raw), strict=True))

    def weights(self, which: int = 0) -> dict[str, Tensor]:
        """One average by the module's state_dict names, buffers as they are."""
        if not self.is_swapped:  # else it has been asked already
            self._local_parameters()
        averaged = dict(zip(self._parameter_names(), self._whole(self._averages[which]), strict=True))
        state = {n: v.detach() for n, v in self._module.state_dict().items()}
        return {n: averaged[n] if n in averaged else whole(v) for n, v in state.items()}

    def state_dict(self) -> dict[str, Any]:
        """{"weights": the first average by the module's names, "updates": how many}; of several also "names" and
        "others", each by parameter name.
        """
        state: dict[str, Any] = {"weights": self.weights(), "updates": self.updates}
        if self.names != (None,):
            state["names"] = list(self.names)
            others = [self._whole(a) for a in self._averages[1:]]
            state["others"] = [dict(zip(self._parameter_names(), a, strict=True)) for a in others]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up saved averages; ValueError where they are not those that are kept here, KeyError where a parameter is
        missing.
        """
        if self.is_swapped:
            raise RuntimeError("the average cannot be loaded while it is swapped into the module")
        names = tuple(state.get("names", (None,)))
        if names != self.names:
            there, here = (
                ", ".join(map(str, n)) if n != (None,) else "one exponential average" for n in (names, self.names)
            )
            raise ValueError(f"the checkpoint holds {there}, not {here}")
        stored = [state["weights"], *state.get("others", [])]
        self._averages = [[a[n].float().clone() for n in self._parameter_names()] for a in stored]
        self._parted = False
        self.updates = int(state["updates"])

    def _parameter_names(self) -> list[str]:
        return self._trained

    def _parameters(self) -> list[nn.Parameter]:
        named = dict(self._module.named_parameters())
        return [named[n] for n in self._trained]

    def _local_parameters(self) -> list[Tensor]:
        """Of this process, detached; the averages follow to where they lie, and to how they are parted: they are made,
        and read from a file, before that is known.
        """
        self._like = self._parameters()
        found = [local(p.detach()) for p in self._like]
        for average in self._averages:
            for k, (a, p) in enumerate(zip(average, self._like, strict=True)):
                if is_sharded(p) and not self._parted:
                    average[k] = local(parted(a, like=p))
                elif a.device != found[k].device:
                    average[k] = a.to(found[k].device)
        self._parted = is_sharded(self._like[0])
        return found

    def _whole(self, parts: Sequence[Tensor]) -> list[Tensor]:
        if not self._parted:
            return list(parts)
        # one after the other to the host: a device that holds a part has no room for all
        return [whole(t, like=p).cpu() for t, p in zip(parts, self._like, strict=True)]
