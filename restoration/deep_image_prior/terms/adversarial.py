"""An adversarial term: patches of the output shall look like patches of the measurement of the same image."""

import copy
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from networks.untrained.base import UntrainedNetwork
from networks.untrained.layers import Conv
from restoration.base import Unsupported
from restoration.deep_image_prior.adam import IndependentAdam
from restoration.deep_image_prior.terms.base import ActiveTerm, Term

FIELD, STRIDE = 13, 2  # one logit of the discriminator sees 13 x 13 pixels, every second pixel has one


class AdversarialTerm(Term):
    """weight * mean over patches of softplus(-D(f)); D learns beside it: softplus(-D(r)) + softplus(D(f)), one small D
    for each image, from that image alone.

    r is what the patches shall look like: the measurement y, which for super-resolution shows the scene's patches at
    another scale (patch recurrence, Glasner et al. 2009; Shocher et al. 2018, 1812.00231), or A^+ y. Patches with a
    missing pixel are not shown to D. Where r = y has noise, f gets noise of the same sigma before D sees it, so that
    D cannot ask f for noise (Bora et al. 2018, AmbientGAN). Non-saturating loss: Goodfellow et al. 2014 (1406.2661);
    patches of 13 x 13 pixels: Isola et al. 2017 (1611.07004).

    Args:
        weight: against the data term.
        reference: r.
        channels: of D.
        learning_rate: of its Adam (0.5, 0.999).
        steps: of D at each iteration.
        crop: D sees a random square of this side at each step.

    Raises:
        ValueError: options out of range, Unsupported where y is no image or no patch is known.
    """

    def __init__(
        self,
        *,
        weight: float = 1e-3,
        reference: Literal["measurement", "pseudo_inverse"] = "measurement",
        channels: int = 16,
        learning_rate: float = 1e-3,
        steps: int = 1,
        crop: int = 32,
    ) -> None:
        if not 0 <= weight < float("inf") or not learning_rate > 0:
            raise ValueError(f"weight must be at least 0 and learning_rate positive, got {weight} and {learning_rate}")
        if channels < 1 or steps < 1 or crop < FIELD:
            raise ValueError(
                f"channels and steps must be at least 1 and crop at least {FIELD}, got {channels}, {steps} and {crop}"
            )
        if reference not in ("measurement", "pseudo_inverse"):
            raise ValueError(f"reference must be measurement or pseudo_inverse, got '{reference}'")
        self.weight, self.reference, self.channels, self.learning_rate, self.steps, self.crop = (
            weight,
            reference,
            channels,
            learning_rate,
            steps,
            crop,
        )

    def begin(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> ActiveTerm:
        del iterations
        operator = measurement.operator
        name = operator.description or type(operator).__name__
        if self.reference == "pseudo_inverse" and not operator.linear:
            raise Unsupported(
                f"an adversarial term on the pseudo-inverse needs a linear operator, {name} is not: set reference to"
                " measurement"
            )
        if self.reference == "measurement" and operator.output_shape[0] != operator.input_shape[0]:
            raise Unsupported(
                f"an adversarial term needs measurements that are images, those of {name} are not: set reference to"
                " pseudo_inverse"
            )
        return _Active(self, measurement, random)


class Discriminator(UntrainedNetwork):
    """Logits [K, 1, H / 2, W / 2] of images [K, C, H, W]: four 3x3 convolutions, the second of stride 2, no norm, so
    that a patch is judged by itself.
    """

    def __init__(self, inputs: int, channels: int, copies: int) -> None:
        super().__init__()
        self.copies = copies
        widths = [
            (inputs, channels, 1),
            (channels, 2 * channels, STRIDE),
            (2 * channels, 2 * channels, 1),
            (2 * channels, 1, 1),
        ]
        self.convs = nn.ModuleList(Conv(copies, a, b, 3, stride=s) for a, b, s in widths)

    def forward(self, z: Tensor) -> Tensor:
        for conv in self.convs[:-1]:
            z = F.leaky_relu(conv(z), 0.2)
        return self.convs[-1](z)


class _Active(ActiveTerm):
    def __init__(self, term: AdversarialTerm, measurement: Measurement, random: RandomStreams) -> None:
        self.term, self.random, self.index = term, random, list(measurement.index)
        y, operator = measurement.y, measurement.operator
        from_y = term.reference == "measurement"
        self.real = y if from_y else operator.pseudo_inverse(y)
        self.sigma = measurement.sigma if from_y else 0.0
        self.known = (
            torch.ones_like(self.real[:, :1])
            if operator.mask is None
            else operator.mask.to(y).expand(len(y), -1, -1, -1)
        )
        if min(self.real.shape[2:]) < FIELD:
            raise Unsupported(
                f"an adversarial term compares {FIELD} x {FIELD} patches, and has {self.real.shape[2]} x"
                f" {self.real.shape[3]} pixels: leave it out"
            )
        for row, index in enumerate(self.index):
            if not bool(_patches(self.known[row : row + 1]).any()):
                raise Unsupported(
                    f"no patch of {FIELD} x {FIELD} pixels of image {index} is known, so an adversarial term has"
                    " nothing to compare with: leave it out"
                )
        self.network = Discriminator(y.shape[1], term.channels, len(y)).to(y.device, y.dtype)
        self.network.reset(
            [
                torch.Generator().manual_seed(int(random.generator("dip_adversarial_weights", i).integers(2**62)))
                for i in self.index
            ]
        )
        self.optimizer = IndependentAdam(
            self.network.parameters(), lr=term.learning_rate, copies=len(y), betas=(0.5, 0.999)
        )

    def loss(self, output: Tensor, iteration: int) -> Tensor:
        frozen = {name: p.detach() for name, p in self.network.named_parameters()}
        (fake,) = self._crops(f"dip_adversarial_output {iteration}", output, noisy=output)
        return self.term.weight * F.softplus(-functional_call(self.network, frozen, (fake,))).flatten(1).mean(1)

    @torch.enable_grad()
    def after_step(self, output: Tensor, average: Tensor, iteration: int) -> None:
        del average
        for step in range(self.term.steps):
            stream = f"dip_adversarial_training {iteration} {step}"
            (fake,) = self._crops(f"{stream} fake", output, noisy=output)
            real, known = self._crops(f"{stream} real", self.real, self.known)
            valid = _patches(known)
            # A crop without any whole patch teaches nothing about r: its mean is 0.
            on_real = (F.softplus(-self.network(real)) * valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
            on_fake = F.softplus(self.network(fake)).flatten(1).mean(1)
            (on_real + on_fake).sum().backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def _crops(self, stream: str, *images: Tensor, noisy: Tensor | None = None) -> list[Tensor]:
        """A random square of each row, at the same place in all images; the draws are a function of (seed, stream,
        image index).
        """
        height, width = images[0].shape[2:]
        h, w = min(self.term.crop, height), min(self.term.crop, width)
        rows: list[list[Tensor]] = [[] for _ in images]
        for row, index in enumerate(self.index):
            generator = self.random.generator(stream, index)
            top, left = int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1))
            for found, image in zip(rows, images, strict=True):
                square = image[row, :, top : top + h, left : left + w]
                if noisy is not None and self.sigma > 0:
                    square = square + self.sigma * torch.from_numpy(
                        generator.standard_normal(tuple(square.shape), dtype=np.float32)
                    ).to(square)
                found.append(square)
        return [torch.stack(found) for found in rows]

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy({"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


def _patches(known: Tensor) -> Tensor:
    """Which logits see known pixels only: [B, 1, H, W] of 0 and 1 to [B, 1, H / 2, W / 2]."""
    missing = F.pad(1 - known, [FIELD // 2] * 4)
    return 1 - F.max_pool2d(missing, FIELD, STRIDE)
