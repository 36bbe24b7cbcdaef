"""Adapters inside a network, by name: put in, switched, scaled, taken out and merged. The one module that
imports peft.
"""

import common.torchvision_remedy  # noqa: F401, I001  (peft imports torchvision)

import re
import warnings
from collections.abc import Mapping
from typing import cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from common.errors import UserError, nearest
from common.private_names import register_adapter_layer
from networks.lora_convolution import LoRAConv2d
from networks.lora_settings import LoRASettings, adaptable, whole_name

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def add_adapter(network: nn.Module, settings: LoRASettings, name: str = "default") -> None:
    """Put an adapter beside the layers of a network, in place; it starts as the identity: A uniform (Kaiming), B zero.

    From then on the base weights have no gradients, the parameters of the newest adapter have. Random numbers come from
    the global generator. UserError for a name that is taken or no plain word, for layers that the network does not
    have, and for a rank above the width of a layer.
    """
    if not NAME.fullmatch(name) or name in adapters(network):
        raise UserError(
            "name of an adapter must be a new plain word, got"
            f" '{name}'{' (taken)' if name in adapters(network) else ''}"
        )
    layers = adaptable(network)
    for layer in settings.layers:
        if layer not in layers:
            raise UserError(
                f"the adapter '{name}' changes '{layer}', which the network does not have{nearest(layer, layers)}: it"
                " is for another network"
            )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=cast(int, settings.alpha),  # a factor, declared as an int
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules="|".join(re.escape(layer) for layer in settings.layers),
        rank_pattern={whole_name(layer): rank for layer, rank in settings.ranks.items()},
        alpha_pattern={whole_name(layer): cast(int, alpha) for layer, alpha in settings.alphas.items()},
    )
    register_adapter_layer(config, {nn.Conv2d: LoRAConv2d})
    with warnings.catch_warnings():
        # several adapters are what is wanted
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        inject_adapter_in_model(config, network, adapter_name=name)
    for layer in _layers(network).values():
        cast(nn.Module, layer).train(
            layer.get_base_layer().training
        )  # new layers come in training mode, where dropout is on


def adapters(network: nn.Module) -> list[str]:
    """Names of the adapters that a network carries."""
    return list(dict.fromkeys(name for layer in _layers(network).values() for name in layer.lora_A))


def adapter_state(network: nn.Module, name: str = "default") -> dict[str, Tensor]:
    """The parameters of one adapter, by the names of peft's files without their prefix: "<layer>.lora_A.weight",
    "<layer>.lora_magnitude_vector".
    """
    return {
        public_name(n, name): p.detach()
        for n, p in network.named_parameters()
        if f".{name}.weight" in n and ".lora_" in n
    }


def load_adapter_state(network: nn.Module, state: Mapping[str, Tensor], name: str = "default") -> None:
    """Copy parameters into one adapter; UserError for missing, unexpected or misshapen ones."""
    own = {public_name(n, name): p for n, p in network.named_parameters() if f".{name}.weight" in n and ".lora_" in n}
    for key in [*own, *state]:
        if key not in own or key not in state or own[key].shape != state[key].shape:
            raise UserError(
                f"the adapter '{name}' does not fit the network: '{key}' is missing, unexpected or of another shape"
            )
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(state[key])


def public_name(name: str, adapter: str = "default") -> str:
    """ "x.lora_A.default.weight" as "x.lora_A.weight", "x.lora_magnitude_vector.default.weight" as
    "x.lora_magnitude_vector".
    """
    found = name.removesuffix(f".{adapter}.weight")
    return found if found.endswith(".lora_magnitude_vector") else found + ".weight"


def use_adapters(network: nn.Module, scales: Mapping[str, float]) -> None:
    """W + sum_k c_k s_k B_k A_k with these factors c_k; adapters that are not named are off, so that {} is the base.
    Nothing has gradients afterwards.

    UserError for an unknown name, and for a DoRA adapter beside others or at another factor than 1: it is no sum.
    """
    known = adapters(network)
    for name in scales:
        if name not in known:
            raise UserError(
                f"there is no adapter '{name}'{nearest(name, known)}; the network has {', '.join(known) or 'none'}"
            )
    for layer in _layers(network).values():
        if any(name in layer.lora_variant for name in scales) and (len(scales) > 1 or set(scales.values()) != {1}):
            raise UserError(
                "an adapter with dora works alone and at scale 1, got"
                f" {', '.join(f'{n}: {s}' for n, s in scales.items())}"
            )
    for layer in _layers(network).values():
        layer.enable_adapters(bool(scales))
        layer.set_adapter(list(scales), inference_mode=True)
        for name, scale in scales.items():
            layer.set_scale(name, scale)


def merge_adapters(network: nn.Module) -> None:
    """Add the adapters that are on to the weights, in place and in the weights' precision, and take all of them out:
    the network is plain again.
    """
    for path, layer in _layers(network).items():
        if not layer.disable_adapters:
            layer.merge()
        parent, _, leaf = path.rpartition(".")
        setattr(network.get_submodule(parent), leaf, layer.get_base_layer())
    network.__dict__.pop("peft_config", None)


def base_state(network: nn.Module) -> dict[str, Tensor]:
    """The base weights by the names that they have without adapters."""
    return {n.replace(".base_layer.", "."): v for n, v in network.state_dict().items() if ".lora_" not in n}


def _layers(network: nn.Module) -> dict[str, LoraLayer]:
    return {n: m for n, m in network.named_modules() if isinstance(m, LoraLayer)}
