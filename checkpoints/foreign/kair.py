"""Denoisers in the layout of KAIR and DPIR: .pth files of weights alone, recognised by their names and shapes.

What the weights do not say is known of the published ones: the levels of training, and the range [0, 1].
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints.files import read_checkpoint_file
from checkpoints.foreign.base import ForeignPrior, digest_of, only_tensors
from common.errors import UserError
from diffusion.published_denoiser import UniformLevels
from networks.denoisers.dncnn import DnCNN
from networks.denoisers.drunet import DRUNet
from networks.denoisers.ffdnet import FFDNet
from networks.denoisers.ircnn import DILATIONS, IRCNN

#: Levels of training by network, (lowest, highest) of 255: 1710.04026, 1608.03981 (blind), 1704.03264, 2008.13751.
LEVELS_255 = {FFDNet: (0.0, 75.0), DnCNN: (0.0, 55.0), IRCNN: (0.0, 50.0), DRUNet: (0.0, 50.0)}
#: What a file of DnCNN may be told to be: its level of 255, None for a blind one.
PRESETS: dict[str, float | None] = {"dncnn_15": 15.0, "dncnn_25": 25.0, "dncnn_50": 50.0, "dncnn_blind": None}
BLIND_LAYERS = 20  # of the published blind networks; those of one level have 17
SIDE = 64  # of the pictures that the description names: pieces of this size are usual in their training
NORM_EPS = 1e-4  # of KAIR's batch normalisation
_CONV = re.compile(r"model\.(\d+)\.(weight|bias)")


def is_kair(content: Mapping[Any, Any]) -> bool:
    """Whether a dictionary looks like weights of such a denoiser: a chain named `model`, the 25 networks of an IRCNN by
    number, or a DRUNet.
    """
    chain = "model.0.weight" in content or "m_head.weight" in content
    return chain or ("0" in content and all(isinstance(part, Mapping) for part in content.values()))


def read_kair(path: str | Path, *, preset: str | None = None) -> ForeignPrior:
    """The denoiser in a .pth file of KAIR's layout: FFDNet, DnCNN, IRCNN or DRUNet, grey or colour.

    Args:
        path: the file, read with weights_only.
        preset: of a DnCNN whose name does not say its level, see PRESETS.

    Raises:
        UserError: a file that would run code, a network that is none of them, missing and unexpected keys by name.
    """
    path = Path(path)
    where = f"the prior '{path}'"
    content = read_checkpoint_file(path)
    network: type[nn.Module]
    if "m_head.weight" in content:
        network, (options, tensors) = DRUNet, _drunet(only_tensors(content, path), where)
    elif "model.0.weight" not in content:
        network, (options, tensors) = IRCNN, _ircnn(content, path, where)
    else:
        network, (options, tensors) = _chain(only_tensors(content, path), where)
    if preset is not None and network is not DnCNN:
        raise UserError(
            f"preset '{preset}' is for a DnCNN, and '{path}' is a {network.__name__}, which needs none: leave the"
            " preset out"
        )
    low, high = LEVELS_255[network]
    if network is DnCNN and (level := _level_of_dncnn(path, preset, options["layers"])) is not None:
        low = high = level
    return ForeignPrior(
        network=options,
        network_class=network,
        tensors=tensors,
        schedule=UniformLevels(from_255=low, to_255=high),
        prediction="x0",
        variance="fixed",
        shape=(options["channels"], SIDE, SIDE),
        digest=digest_of([path], *([] if low < high else [f"level={low:g}"])),
        where=where,
        data="photographs",
        training={"source": "KAIR"},
    )


def _chain(state: dict[str, Tensor], where: str) -> tuple[type[nn.Module], tuple[dict[str, Any], dict[str, Tensor]]]:
    """FFDNet or DnCNN, told apart by the channels at both ends."""
    state = _without_norms(state, where)
    ends = [name for name in state if (found := _CONV.fullmatch(name)) and found[2] == "weight"]
    layers = len(ends)
    for k, name in enumerate(ends):
        if name != f"model.{2 * k}.weight" or state[name].ndim != 4 or state[name].shape[2:] != (3, 3):
            raise UserError(f"{where} is no chain of 3x3 convolutions: look at '{name}'; {_READ}")
    if layers < 2:
        raise UserError(f"{where} is a single convolution, not a denoiser; {_READ}")
    inputs, width = state[ends[0]].shape[1], state[ends[0]].shape[0]
    outputs = state[ends[-1]].shape[0]
    if outputs in (4, 12) and inputs == outputs + 1:
        return FFDNet, ({"channels": outputs // 4, "width": width, "layers": layers}, state)
    if outputs in (1, 3) and inputs == outputs:
        return DnCNN, ({"channels": outputs, "width": width, "layers": layers}, state)
    kind = " (an FDnCNN, whose level is an input beside the picture)" if inputs == outputs + 1 else ""
    raise UserError(f"{where} takes {inputs} channels and gives {outputs}{kind}: it is no FFDNet and no DnCNN; {_READ}")


def _without_norms(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """The chain without batch normalisation, which is a factor and a constant once training has ended: as published
    files are. Convolutions and what follows them are numbered anew.
    """
    norms = sorted({int(name.split(".")[1]) for name in state if name.endswith(".running_mean")})
    if not norms:
        return state
    found: dict[str, Tensor] = {}
    try:
        numbers = sorted({int(n.split(".")[1]) for n in state} - set(norms))
        for k, number in enumerate(numbers):
            weight = state[f"model.{number}.weight"].double()
            bias = state.get(f"model.{number}.bias", torch.zeros(len(weight))).double()
            if number + 1 in norms:
                norm = {p: state[f"model.{number + 1}.{p}"].double() for p in ("weight", "bias")}
                mean, var = (state[f"model.{number + 1}.running_{p}"].double() for p in ("mean", "var"))
                gain = norm["weight"] / (var + NORM_EPS).sqrt()
                weight, bias = weight * gain.view(-1, 1, 1, 1), (bias - mean) * gain + norm["bias"]
            found[f"model.{2 * k}.weight"], found[f"model.{2 * k}.bias"] = weight.float(), bias.float()
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"{where} has batch normalisation where no DnCNN has it ({error}); {_READ}") from error
    return found


def _level_of_dncnn(path: Path, preset: str | None, layers: int) -> float | None:
    """The one level that it was trained at, of 255; None: blind."""
    if preset is not None:
        if preset not in PRESETS:
            raise UserError(f"'{path}' is a DnCNN, and preset '{preset}' is not for it: take {', '.join(PRESETS)}")
        return PRESETS[preset]
    if named := re.search(r"dncnn[_-](\d{1,3})(?!\d)", path.stem.lower()):
        return float(named[1])
    if layers == BLIND_LAYERS or "blind" in path.stem.lower():
        return None
    raise UserError(
        f"'{path}' is a DnCNN of {layers} layers, which was trained at one level, and neither the weights nor the name"
        " say which: name it dncnn_25.pth where that is 25 of 255, or give the preset dncnn_15, dncnn_25, dncnn_50 or"
        " dncnn_blind"
    )


def _ircnn(content: dict[Any, Any], path: Path, where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    names = [str(k) for k in range(len(content))]
    if set(content) != set(names):
        raise UserError(f"{where}: networks of an IRCNN are named 0 to {len(content) - 1}, and these are not; {_READ}")
    tensors: dict[str, Tensor] = {}
    for k in names:
        for name, value in only_tensors(dict(content[k]), path).items():
            tensors[f"models.{k}.{name.removeprefix('model.')}"] = value
    first = tensors.get("models.0.0.weight")
    if first is None or first.ndim != 4 or f"models.0.{2 * len(DILATIONS) - 2}.weight" not in tensors:
        raise UserError(f"{where} is no IRCNN: its networks are not chains of {len(DILATIONS)} convolutions; {_READ}")
    return {"channels": first.shape[1], "width": first.shape[0], "levels": len(names)}, tensors


def _drunet(state: dict[str, Tensor], where: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Widths and blocks from the shapes; other ways to change the resolution have other names or shapes."""
    needed = ["m_tail.weight", *(f"m_down{k}.0.res.0.weight" for k in (1, 2, 3)), "m_body.0.res.0.weight"]
    for name in needed:
        if name not in state or state[name].ndim != 4:
            raise UserError(f"{where} has m_head and no '{name}': it is no DRUNet of four scales; {_READ}")
    head, tail = state["m_head.weight"], state["m_tail.weight"]
    if head.shape[1] != tail.shape[0] + 1:
        raise UserError(
            f"{where} takes {head.shape[1]} channels and gives {tail.shape[0]}: a DRUNet takes one more than it gives,"
            f" the map of levels; {_READ}"
        )
    if biases := sorted(name for name in state if name.endswith(".bias")):
        raise UserError(f"{where} has biases ('{biases[0]}'), and a DRUNet has none: it is another U-Net; {_READ}")
    blocks = len({name.split(".")[1] for name in state if re.match(r"m_body\.\d+\.res\.", name)})
    widths = [state[name].shape[0] for name in needed[1:]]
    return {"channels": tail.shape[0], "widths": widths, "blocks": blocks}, state


_READ = "DnCNN, IRCNN, FFDNet and DRUNet in the layout of KAIR are read, see docs/checkpoints.md"
