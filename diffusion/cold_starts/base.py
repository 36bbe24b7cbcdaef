"""Where cold generation begins: a way to draw x_T, the end state of a family of degradations, without an image to
degrade.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from common.build import Recorded
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Params, Shape
from degradations.severity.base import SeverityFamily

#: How much of the coarsest pattern of an image (amplitude 1) may be left at severity T before a start that does not
#: know it is refused.
LEFT_AT_MOST = 0.1


class Start(Recorded, ABC):
    """x_T ~ p(D(x_0, T)), and what is random in D for the whole of one sampling: both by (seed, stream name, image
    index) alone.

    A checkpoint holds ``spec`` and ``state()``, so that drawing needs no data. Bansal et al. 2022 (2208.09392);
    docs/theory/cold_generation.md.
    """

    @property
    def fitted(self) -> bool:
        """Whether it can be drawn from; most starts have nothing to learn."""
        return True

    def fit(self, images: Tensor) -> None:
        """Learn from training images uint8 [N, C, H, W] what the start has to know of them; UserError for too few."""
        del images

    def state(self) -> dict[str, Any]:
        """What was learnt, as plain lists and numbers; empty where there is nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`state` gave; UserError where it is of another start."""
        if state:
            found = ", ".join(sorted(state))
            raise UserError(
                f"{type(self).__name__} learns nothing from data, but the checkpoint has {found} for it: give the start"
                " it was trained with"
            )

    def check(self, family: SeverityFamily, shape: Shape) -> None:
        """UserError where images (C, H, W) cannot be degraded by `family`, or where its end state is not what this
        start draws.
        """
        family.check(shape)
        reason = self.mismatch(family, shape)
        if reason is not None:
            raise UserError(
                f"{type(self).__name__} is no start for {family.description or type(family).__name__}: {reason}"
            )

    @abstractmethod
    def mismatch(self, family: SeverityFamily, shape: Shape) -> str | None:
        """Why D(x, T) of the family is not what this start draws, and what is; None where it suits."""

    @abstractmethod
    def draw(
        self,
        random: RandomStreams,
        index: Sequence[int],
        family: SeverityFamily,
        shape: Shape,
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, Params]:
        """x_T, float32 [B, C, H, W] of `shape` (C, H, W) on `device`, and the parameters of D for the B images with
        these indices.
        """


def end_state(family: SeverityFamily, x: Tensor, params: Params | None = None) -> Tensor:
    """D(x, T) of images [B, C, H, W]."""
    return family(x, family.severities, params)


def coarse_pattern(shape: Shape) -> Tensor:
    """One image [1, C, H, W] of mean 0 and amplitude near 1: half a wave over each axis, what a blur removes last.

    cos(pi (i + 1/2) / H) + cos(pi (j + 1/2) / W), halved; the whole of the first where W = 1, and so on.
    """
    _, height, width = shape
    waves = [torch.cos(math.pi * (torch.arange(side, dtype=torch.float32) + 0.5) / side) for side in (height, width)]
    return ((waves[0][:, None] + waves[1]) / 2).expand(1, *shape).contiguous()


def left_at_end(family: SeverityFamily, shape: Shape, params: Params | None = None) -> float:
    """max |D(p, T) - D(-p, T)| / 2 for the coarse pattern p: how much of an image is seen in its end state,
    sqrt(alpha-bar_T) for a blending family.
    """
    p = coarse_pattern(shape)
    return float((end_state(family, p, params) - end_state(family, -p, params)).abs().max() / 2)
