"""What is said of a set of generated images: its distances from real ones, each with an interval."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from metrics.features import Features
from metrics.fid import fid, fid_without_bias
from metrics.inception_score import inception_score
from metrics.jackknife import Estimate
from metrics.kid import kid
from metrics.moments import Moments

KID_REFERENCE = 10_000  # its pairs grow with the square of the reference: so many of it give it
LEAST_PER_DIMENSION = 10  # below so many images per feature the bias of FID is larger than most differences
FID_LINE = 240  # images from which a line through smaller sets is worth drawing


@dataclass(frozen=True)
class Quality:
    """fid, kid (not multiplied), inception_score with 95 % intervals; fid_without_bias: FID's limit for ever more
    images. None: cannot be said.
    """

    fid: Estimate
    kid: Estimate
    inception_score: Estimate | None
    fid_without_bias: float | None

    def values(self) -> Iterator[tuple[str, Estimate]]:
        """(name, estimate) of what there is."""
        yield "fid", self.fid
        if self.fid_without_bias is not None:
            yield "fid_without_bias", Estimate(self.fid_without_bias, math.nan, math.nan)
        yield "kid", self.kid
        if self.inception_score is not None:
            yield "inception_score", self.inception_score


def quality(generated: Features, reference: Features) -> Quality:
    """The measures of generated images against a reference set, the latter shuffled; ValueError for fewer than 4
    generated images.
    """
    found = generated.features
    moments = Moments.of(reference.features)
    enough = generated.probabilities is not None and len(found) >= 20
    return Quality(
        fid=fid(found, moments),
        kid=kid(found, reference.features[:KID_REFERENCE]),
        inception_score=inception_score(generated.probabilities) if enough else None,
        fid_without_bias=fid_without_bias(found, moments) if len(found) >= FID_LINE else None,
    )


def too_few(count: int, dimension: int) -> str | None:
    """A sentence where a set is too small for its features, else None."""
    least = LEAST_PER_DIMENSION * dimension
    return (
        f"{count} images are few for {dimension} features: FID's bias is large below {least}" if count < least else None
    )
