"""Representatives: many samples are drawn, and those are kept that show between them what there is."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from common.build import build, find_class
from common.errors import UserError
from common.image_range import to_uint8
from common.random_streams import RandomStreams
from common.shapes import image_shape
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from metrics.features import FeatureNetwork
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported
from restoration.representative_sets import RULES, choose


class Representatives(Method):
    """The N of K N samples of the inner method that a rule chooses in a feature space: "kmeans", the sample nearest to
    each of N centres; "uniform", drawn with probabilities that are inverse to their density; "farthest", each one as
    far as can be from those before it.

    The explorations of Cohen et al. 2024 (2310.16047, ICLR), section 3, which their guidance (restoration/diversity.py)
    is compared with; rules and settings are in restoration/representative_sets.py. Kept samples stand in the order in
    which they were drawn. A sample that is kept costs K of the inner method: for the cost of plain sampling give it so
    many steps less.

    Args:
        prior: the denoiser, where the inner method takes one.
        inner: {class_path, init_args} of a method that draws, without its prior, or its class path alone.
        draws: K, samples drawn for each that is kept, at least 2; 20 as in the paper, which keeps 5 of 100.
        rule: "kmeans", "uniform" or "farthest".
        features: the network that samples are compared in; null: by their pixels, those that are missing where A is a
            mask.
        dimensions: features are reduced to so many of their principal components among the samples of an image, at
            least 1; null leaves them as they are; 25 as in the paper.

    Raises:
        ValueError: options out of range; an inner method that draws nothing.
    """

    needs_prior = True
    couples_samples = True

    def __init__(
        self,
        *,
        prior: Denoiser,
        inner: dict | str = "restoration.dps.DPS",
        draws: int = 20,
        rule: Literal["kmeans", "uniform", "farthest"] = "farthest",
        features: FeatureNetwork | None = None,
        dimensions: int | None = 25,
    ) -> None:
        if draws < 2:
            raise ValueError(f"draws must be at least 2, of which one is kept, got {draws}")
        if rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got '{rule}'")
        if dimensions is not None and dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, or null, got {dimensions}")
        self.prior, self.draws, self.rule, self.features, self.dimensions = prior, draws, rule, features, dimensions
        self.inner = build_inner(inner, prior)
        if self.inner.deterministic:
            raise ValueError("inner gives one sample and draws nothing to choose from: take a method that draws")
        self.uses_truth, self.cost_varies = self.inner.uses_truth, self.inner.cost_varies
        self.gives_image = self.inner.gives_image

    def check(self, operator: Operator, noise: Noise) -> None:
        self.inner.check(operator, noise)
        if self.features is not None:
            try:
                self.features.check(image_shape(operator.input_shape))
            except UserError as error:
                raise Unsupported(str(error)) from error

    def calls(self) -> Cost:
        return self._cost(self.inner.calls())

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        B, total = len(measurement.y), self.draws * num_samples
        # As many chains at once as plain sampling of this batch would have, or those of one image.
        parts = torch.arange(B).split(max(1, B // self.draws))
        shown = torch.zeros(B, num_samples, *measurement.operator.input_shape).to(measurement.y)
        kept, cost = [], Cost()
        for number, rows in enumerate(parts):

            def report(step: int, steps: int, estimate: Tensor, number: int = number, rows: Tensor = rows) -> None:
                assert on_step is not None
                shown[rows] = estimate.unflatten(0, (-1, total))[:, :num_samples].to(shown)
                share = (number + (step + 1) / max(1, steps)) / len(parts)
                on_step(max(0, round(1000 * share) - 1), 1000, shown.flatten(0, 1))

            part = measurement.pick(rows.tolist())
            found = self.inner.restore(
                part, num_samples=total, random=random, on_step=None if on_step is None else report
            )
            cost = found.cost
            features = self._features(found.samples.nan_to_num(), part.operator)
            for samples, values, index in zip(found.samples, features, part.index, strict=True):
                diverged = ~samples.flatten(1).isfinite().all(1)
                if bool(diverged.any()):  # nothing to compare; they are shown, so that the evaluation says so
                    chosen = diverged.logical_not().long().argsort(stable=True)[:num_samples].sort().values
                    kept.append(samples[chosen])
                    continue
                chosen = choose(
                    values,
                    num_samples,
                    rule=self.rule,
                    dimensions=self.dimensions,
                    generator=random.generator("representatives", index),
                )
                kept.append(samples[chosen])
        return Restoration(samples=torch.stack(kept), cost=self._cost(cost))

    def _cost(self, of_one: Cost) -> Cost:
        return replace(of_one, nfe=self.draws * of_one.nfe, backwards=self.draws * of_one.backwards)

    def _features(self, samples: Tensor, operator: Operator) -> list[np.ndarray]:
        """Of samples [B, M, C, H, W], float64 [M, d] for each image."""
        if self.features is not None:
            network = self.features.to(samples.device)
            found = network.of_all(to_uint8(samples).flatten(0, 1)).features
            return list(found.double().unflatten(0, samples.shape[:2]).numpy())
        rows = list(samples.double().cpu())
        if not operator.keeps_pixels or operator.mask is None:
            return [row.flatten(1).numpy() for row in rows]
        missing = (operator.mask == 0).expand(len(rows), *samples.shape[2:]).cpu()
        return [row[:, where].numpy() for row, where in zip(rows, missing, strict=True)]


def build_inner(spec: dict[str, Any] | str, prior: Denoiser) -> Method:
    """The method of a specification, with the prior where it takes one."""
    path = spec if isinstance(spec, str) else str(spec.get("class_path"))
    if find_class(path, Method, where="inner").needs_prior:
        return build(spec, Method, where="inner", prior=prior)
    return build(spec, Method, where="inner")
