"""Which label a conditional network is given: in training, now and then none; for drawing, one class after the other,
with guidance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion.denoiser import Condition, Denoiser
from diffusion.guidance import Guided


@dataclass(frozen=True)
class ClassConditioning:
    """Options of a network with num_classes labels; None: a network without labels, which takes none of the options.

    Args:
        label_dropout: probability with which a training image loses its label, so that the network learns the
            unconditional model too that guidance needs; 0.1 where it is None (Ho and Salimans 2022, 2207.12598).
        guidance_scale: see diffusion/guidance.py; scale 1 is the conditional model.
        guidance_interval: see diffusion/guidance.py; scale 1 is the conditional model.
        guidance_rescale: see diffusion/guidance.py; scale 1 is the conditional model.
        sampling_label: the label of all drawn images; None: image i has label i mod num_classes.

    Raises:
        ValueError: options out of range and for options that need labels where there are none.
    """

    num_classes: int | None = None
    label_dropout: float | None = None
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float = 0.0
    sampling_label: int | None = None

    def __post_init__(self) -> None:
        if self.num_classes is None:
            neutral = {
                "label_dropout": (None, 0),
                "guidance_scale": (1,),
                "guidance_interval": (None,),
                "guidance_rescale": (0,),
                "sampling_label": (None,),
            }
            for name, values in neutral.items():
                if getattr(self, name) not in values:
                    raise ValueError(
                        f"{name}={getattr(self, name)} needs labels, and the network has none: set network.num_classes,"
                        f" or remove {name}"
                    )
            return
        if not 0 <= self.dropout < 1:
            raise ValueError(f"label_dropout must lie in [0, 1), got {self.label_dropout}")
        if self.guidance_scale != 1 and self.dropout == 0:
            raise ValueError(
                f"guidance_scale={self.guidance_scale} needs a network that was trained without labels too: set"
                " label_dropout, for example to 0.1"
            )
        if self.sampling_label is not None and not 0 <= self.sampling_label < self.num_classes:
            raise ValueError(
                f"sampling_label must be one of the network's classes 0 .. {self.num_classes - 1}, got"
                f" {self.sampling_label}"
            )

    @property
    def dropout(self) -> float:
        return 0.1 if self.label_dropout is None else self.label_dropout

    def check_labels(self, label: Tensor) -> None:
        """ValueError where the labels [N] of a training set do not suit the network."""
        if self.num_classes is None or not len(label):
            return
        if int(label.max()) < 0:
            raise ValueError(
                "the training set has no labels, and the network has classes: remove network.num_classes, or take a"
                " data set with labels"
            )
        if int(label.max()) >= self.num_classes:
            raise ValueError(
                f"the training set has labels up to {int(label.max())}: set network.num_classes to"
                f" {int(label.max()) + 1}, not {self.num_classes}"
            )

    def of_training(self, label: Tensor, u: Tensor | None) -> Condition | None:
        """The condition for training labels [B] (-1: none), dropped where u [B], uniform in [0, 1), is below the
        dropout; u None: all are kept.
        """
        if self.num_classes is None:
            return None
        return Condition(label=label if u is None else torch.where(u < self.dropout, -1, label))

    def of_drawing(self, index: list[int], device: torch.device | str) -> Condition | None:
        """The condition under which the images of these indices are drawn."""
        if self.num_classes is None:
            return None
        label = [i % self.num_classes if self.sampling_label is None else self.sampling_label for i in index]
        return Condition(label=torch.tensor(label, dtype=torch.long, device=device))

    def guided(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser with guidance; itself where it has no labels. ValueError for options of guidance that are out of
        range.
        """
        if self.num_classes is None:
            return denoiser
        return Guided(
            denoiser=denoiser, scale=self.guidance_scale, interval=self.guidance_interval, rescale=self.guidance_rescale
        )
