"""The 2015 Inception network that published FIDs are measured in, from either of the two files that it is published
as.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.torch_hub import hub_with
from common.weight_files import WeightFile

SCRIPTED = WeightFile(
    name="inception-2015-12-05.pt",
    what="the Inception network",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    megabytes=96,
)
_STATE = "inception-2015-12-05-6726825d.pth"
#: The same weights as names and tensors, as torch-fidelity and pytorch-fid keep them.
STATES = tuple(
    WeightFile(prefix + _STATE, "the Inception network", f"{url}/{prefix}{_STATE}", 96, "6726825d")
    for prefix, url in {
        "weights-": "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0",
        "pt_": "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights",
    }.items()
)


class Scripted(nn.Module):
    """The TorchScript file, which is a program of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError as error:
            raise UserError(
                f"'{path}' is not a TorchScript file, or is damaged: fetch it again from {SCRIPTED.url}"
            ) from error

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, 2048] and probabilities [B, 1008] without the bias of the last layer, of [B, 3, 299, 299] in
        0 .. 255.
        """
        # The file's own forward would resize once more, in TensorFlow's way; its layers take what is already of the
        # right size.
        features = self.network.layers((x - 128) / 128).flatten(1).float()
        return features, self.network(x, no_output_bias=True).float()


class FromState(nn.Module):
    """The same network as clean-fid builds it for its mode legacy_pytorch, with the inputs of the scripted one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        from cleanfid.inception_pytorch import fid_inception_v3  # late: it imports torchvision

        with hub_with(path, name=STATES[1].name):
            self.network = fid_inception_v3().eval().requires_grad_(False)
        self.last = self.network.fc
        self.network.register_module("fc", nn.Identity())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As of :class:`Scripted`."""
        features = self.network((x - 128) / 128)
        return features, (features @ self.last.weight.T).softmax(1)


def find_inception(path: str | None = None) -> Path | None:
    """`path`, or the first of the files that is there, the scripted one before the others; None where none is."""
    if path is not None:
        return SCRIPTED.find(path)
    return next((found for file in (SCRIPTED, *STATES) if (found := file.find()) is not None), None)


def wanted_inception() -> WeightFile:
    """The one that is there, or the scripted one, which is to be fetched."""
    return next((file for file in (SCRIPTED, *STATES) if file.find() is not None), SCRIPTED)


def load_inception(path: Path) -> nn.Module:
    """x -> (features, probabilities); a .pth holds a state dict, everything else is TorchScript. UserError where it is
    neither.
    """
    return FromState(path) if path.suffix == ".pth" else Scripted(path)
