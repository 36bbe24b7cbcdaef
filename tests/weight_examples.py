"""Random weights in the layout of published files, for tests of the code that loads the real ones."""

from pathlib import Path

import torch
from torch import nn

from common.weight_files import WeightFile


def torchvision_file(folder: Path, file: WeightFile, architecture: str) -> Path:
    """A state dict with the names and shapes of torchvision's, as its file has them.

    The layers that measure are random; those of the classifier, most of the file, are one zero each with strides of 0.
    """
    from torchvision import models

    with torch.device("meta"):
        state = getattr(models, architecture)(weights=None).state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if name.startswith("classifier"):
            state[name] = torch.zeros(1).expand(value.shape)
        else:
            state[name] = torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state), folder / file.name)
    return folder / file.name


def hub(folder: Path) -> Path:
    """Where torch looks in a TORCH_HOME."""
    return folder / "hub" / "checkpoints"


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules hold the same numbers under the same names."""
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)
