"""A perceptual term: what a trained network sees in the output, instead of its pixels."""

from typing import Literal

import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.measurement import Measurement
from metrics.feature_maps import FeatureMaps
from restoration.base import Unsupported
from restoration.deep_image_prior.terms.base import ActiveTerm, Term


class PerceptualTerm(Term):
    """weight * mean over layers l of |phi_l(a) - phi_l(b)|^2 / |phi_l(b)|^2, with (a, b) = (A f, y) or (f, A^+ y):
    relative errors of feature maps.

    phi sees the noise and the holes of y as it sees everything else: it is for measurements without much of them
    (JPEG, blur, super-resolution). Johnson et al. 2016 (1603.08155); features as the data term of the deep image
    prior: Ulyanov et al. 2018 (1711.10925), feature inversion.

    Args:
        features: phi, e.g. {class_path: checkpoints.feature_maps.ClassifierMaps, init_args: {path:
            assets/classifier_cifar10.safetensors}}.
        weight: of the term beside the data term, which is a mean square in [-1, 1] units; at least 0 (default 0.01).
        compare: "measurement" for (A f, y), where A gives an image (else Unsupported), "pseudo_inverse" for (f, A^+ y).

    Raises:
        UserError: images that phi cannot see, ValueError where weight is negative.
    """

    def __init__(
        self,
        *,
        features: FeatureMaps,
        weight: float = 0.01,
        compare: Literal["measurement", "pseudo_inverse"] = "measurement",
    ) -> None:
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight must be finite and at least 0, got {weight}")
        if compare not in ("measurement", "pseudo_inverse"):
            raise ValueError(f"compare must be measurement or pseudo_inverse, got '{compare}'")
        self.features, self.weight, self.compare = features, weight, compare

    def begin(self, measurement: Measurement, *, random: RandomStreams, iterations: int) -> ActiveTerm:
        del random, iterations
        operator = measurement.operator
        if self.compare == "pseudo_inverse" and not operator.linear:
            raise Unsupported(
                f"a perceptual term on the pseudo-inverse needs a linear operator, {_name(operator)} is not: set"
                " compare to measurement"
            )
        if self.compare == "measurement" and operator.output_shape[0] != operator.input_shape[0]:
            raise Unsupported(
                f"a perceptual term needs measurements that are images, those of {_name(operator)} are not: set compare"
                " to pseudo_inverse"
            )
        self.features.check(operator.output_shape if self.compare == "measurement" else operator.input_shape)
        return _Active(self, measurement)


class _Active(ActiveTerm):
    def __init__(self, term: PerceptualTerm, measurement: Measurement) -> None:
        self.weight, self.operator = term.weight, measurement.operator if term.compare == "measurement" else None
        self.features = term.features.to(measurement.y.device)
        seen = measurement.y if self.operator is not None else measurement.operator.pseudo_inverse(measurement.y)
        with torch.no_grad():
            self.wanted = self.features.of(seen)
            self.sizes = [m.flatten(1).square().sum(1).clamp(min=1e-12) for m in self.wanted]

    def loss(self, output: Tensor, iteration: int) -> Tensor:
        del iteration
        seen = self.features.of(output if self.operator is None else self.operator(output))
        errors = [
            (a - b).flatten(1).square().sum(1) / size for a, b, size in zip(seen, self.wanted, self.sizes, strict=True)
        ]
        return self.weight * torch.stack(errors).mean(0).to(output)


def _name(operator: object) -> str:
    return getattr(operator, "description", "") or type(operator).__name__
