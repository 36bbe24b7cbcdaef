"""Networks that are never trained on data: a recipe, and what it builds for each image."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from common.build import Recorded
from networks.untrained.layers import Conv, Norm, part


class UntrainedNetwork(nn.Module, ABC):
    """K independent networks in one pass: z [K, inputs, H, W] to images [K, outputs, H, W] in (0, 1). Copy k neither
    sees nor changes its neighbours.
    """

    copies: int

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor: ...

    def reset(self, generators: list[torch.Generator]) -> None:
        """Draw all weights anew, those of copy k from generators[k], in the order of the modules."""
        for module in self.modules():
            if isinstance(module, Conv):
                module.reset(generators)
            elif isinstance(module, Norm):
                module.reset()

    @torch.no_grad()
    def copy_from(self, state: list[Tensor], copies: list[int]) -> None:
        """Set the parameters of these copies to those in `state`, a list like ``list(self.parameters())``."""
        for parameter, value in zip(self.parameters(), state, strict=True):
            for k in copies:
                part(parameter, k, self.copies).copy_(part(value, k, self.copies))


class Architecture(Recorded, ABC):
    """An immutable recipe. multiple: H and W of the input must be multiples of it. least: the smallest H and W. inputs:
    channels of the input z. jitter: of z, where its paper has another one than the task.
    """

    multiple: int
    least: int
    inputs: int
    jitter: float | None = None

    @abstractmethod
    def build(self, *, outputs: int, copies: int = 1) -> UntrainedNetwork:
        """So many independent networks with `outputs` channels, weights not yet drawn (see UntrainedNetwork.reset)."""
