"""What an adapter is: which layers of a network it changes, and with how many numbers. Knows nothing of peft, which
only training and switching need.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from common.errors import UserError, nearest

#: Attention and convolutions of our U-Net: all that is inside its blocks and between its levels; not the time
#: embedding, first and last layer.
ATTENTION_AND_CONVOLUTIONS = r".*\.(qkv|mix|conv1|conv2|skip|conv)"


@dataclass(frozen=True)
class LoRASettings:
    """W + s B A on the named layers: A has `rank` rows, s = alpha / rank, or alpha / sqrt(rank) with `rslora`
    (Kalajdzievski 2023, 2312.03732).

    Source: Hu et al. 2021 (2106.09685).

    Args:
        layers: full names of convolutions and linear layers.
        rank: r, rows of A: 1 or more (default 8).
        alpha: numerator of s = alpha / rank (default 8: s = 1).
        dropout: of what A is given, in training, 0..1.
        rslora: s = alpha / sqrt(rank) instead (Kalajdzievski 2023, 2312.03732).
        dora: the length of each output's weights is trained too (Liu et al. 2024, 2402.09353).
        ranks: {layer: rank} of those that have another rank.
        alphas: {layer: alpha} of those that have another alpha.

    Raises:
        UserError: values out of range.
    """

    layers: tuple[str, ...]
    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (None, *self.ranks, *self.alphas):
            rank, alpha = self.ranks.get(name or "", self.rank), self.alphas.get(name or "", self.alpha)
            if rank < 1 or not 0 < alpha < math.inf:
                where = f" of '{name}'" if name else ""
                raise UserError(
                    f"rank of an adapter must be at least 1 and alpha positive, got rank={rank} and"
                    f" alpha={alpha}{where}"
                )
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout of an adapter must lie in [0, 1), got {self.dropout}")

    @property
    def scale(self) -> float:
        """s, of layers without a rank or an alpha of their own."""
        return self.scale_of("")

    def rank_of(self, layer: str) -> int:
        """Rows of A beside a layer."""
        return self.ranks.get(layer, self.rank)

    def scale_of(self, layer: str) -> float:
        """s of a layer."""
        rank = self.rank_of(layer)
        return self.alphas.get(layer, self.alpha) / (math.sqrt(rank) if self.rslora else rank)


def adaptable(network: nn.Module) -> dict[str, nn.Module]:
    """The layers that an adapter may change: linear layers and ungrouped convolutions, by the names that they have
    where no adapter is beside them.
    """
    layers = {
        n: m
        for n, m in network.named_modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1)
    }
    return {n.removesuffix(".base_layer"): m for n, m in layers.items() if ".lora_" not in n}


def chosen(network: nn.Module, targets: str | Sequence[str]) -> tuple[str, ...]:
    """Names of the layers that patterns choose, in the network's order.

    targets: one pattern or several, each a name, the last parts of names ("qkv", "attentions.0.qkv"), or a regular
    expression of whole names. UserError, with the nearest name, for a pattern that chooses nothing.
    """
    patterns = [targets] if isinstance(targets, str) else list(targets)
    layers = adaptable(network)
    if not patterns:
        raise UserError(f"targets of the adapter are empty: name layers, such as '{ATTENTION_AND_CONVOLUTIONS}'")
    found: set[str] = set()
    for pattern in patterns:
        matched = [n for n in layers if _matches(pattern, n)]
        if not matched:
            others = [n for n, m in network.named_modules() if n and _matches(pattern, n)]
            if others:
                kind = type(network.get_submodule(others[0])).__name__
                raise UserError(
                    f"targets of the adapter: '{pattern}' is no convolution or linear layer but a {kind}: name such"
                    " layers"
                )
            names = {part for n in layers for part in (n, n.rpartition(".")[2])}
            raise UserError(
                f"targets of the adapter: '{pattern}' matches no layer of the"
                f" network{nearest(pattern, sorted(names)) or _some(layers)}"
            )
        found.update(matched)
    return tuple(n for n in layers if n in found)


def whole_name(layer: str) -> str:
    """The pattern in a config of peft that means this layer alone, and not one whose name ends so."""
    return f"^{re.escape(layer)}$"


def _matches(pattern: str, name: str) -> bool:
    if name == pattern or name.endswith("." + pattern):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise UserError(
            f"targets of the adapter: '{pattern}' is neither a name nor a regular expression ({error})"
        ) from error


def _some(layers: dict[str, nn.Module]) -> str:
    return f"; its layers are called {', '.join(dict.fromkeys(n.rpartition('.')[2] for n in layers))}"
