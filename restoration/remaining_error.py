"""How far a restoration is from the truth, as its method itself estimates it."""

import math

import torch

from common.errors import UserError
from degradations.base import Operator
from degradations.identity import IdentityOperator
from degradations.measurement import Measurement
from restoration.base import Method, Restoration, Unsupported
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping
from restoration.stopping.sure import SURE

SMOOTH = 25  # iterations that the estimate is averaged over: on small images one of them is mostly noise


def check_remaining_error(method: Method, operator: Operator) -> None:
    """Raise Unsupported where :func:`remaining_error` would find nothing, or something that is not the error of the
    image.
    """
    if not isinstance(getattr(method, "stopping", None), (MultiNoiseEarlyStopping, SURE)):
        raise Unsupported(
            f"{type(method).__name__} does not say how large the error of its answer is (a deep image prior with"
            " MultiNoiseEarlyStopping or SURE does): give start_255 or remaining_255"
        )
    if not isinstance(operator, IdentityOperator):
        raise Unsupported(
            "the first method estimates the error of what is measured, and here that is not the image "
            f"({operator.description or type(operator).__name__}): give start_255 or remaining_255"
        )


def remaining_error(restoration: Restoration, measurement: Measurement) -> list[float]:
    """sqrt(mean((f - x)^2)) of every image in [-1, 1] units: 2 sqrt(R), R the least of the smoothed unbiased risk of
    the first fit. One sample per image.

    Of the first fit, of the noisier copy, also where the answer is of a second pass over y itself: there the risk
    leaves out what was memorised of y's own noise. Thus a little too high, which the chain forgives. An unbiased
    estimate may be negative: nothing is taken to be nearer than a tenth of the measurement's noise. UserError where the
    trace has no risk.
    """
    found = []
    for index in measurement.index:
        which = "" if len(measurement.index) == 1 else f"/{index}/0"
        if f"risk{which}" not in restoration.trace:
            raise UserError("the first method estimated no remaining error: give start_255 or remaining_255")
        risk = torch.tensor(restoration.trace[f"risk{which}"], dtype=torch.float64)
        stage = torch.tensor(restoration.trace.get(f"stage{which}", [0.0] * len(risk)), dtype=torch.float64)
        first = risk[(stage == stage[0]) & risk.isfinite()]
        window = max(1, min(SMOOTH, len(first)))
        least = float(first.unfold(0, window, 1).mean(1).min()) if len(first) else 0.0
        found.append(max(2 * math.sqrt(max(least, 0.0)), 0.1 * measurement.sigma))
    return found
