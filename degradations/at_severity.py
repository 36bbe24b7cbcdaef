"""One severity of a family as a task: what the methods of an evaluation are asked to undo."""

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.base import Degradation, Params, Shape
from degradations.severity.base import SeverityFamily, SeverityOperator


class AtSeverity(Degradation):
    """y = D(x, t) for a family D and one severity t; what is random in D is drawn once per image from (seed, image
    index).

    Args:
        family: see degradations/severity/.
        severity: t in 0..T, the largest one where null. Noise is never hidden in an operator: the Gaussian family gives
            the scaled image, and the task's `noise` adds the rest.

    Raises:
        UserError: where the severity is out of range.
    """

    def __init__(self, *, family: SeverityFamily, severity: int | None = None) -> None:
        severity = family.severities if severity is None else severity
        if not 0 <= severity <= family.severities:
            raise UserError(f"severity must lie in 0..{family.severities} for {family.description}, got {severity}")
        self.family, self.severity = family, severity

    def draw(self, random: RandomStreams, index: int, shape: Shape) -> Params:
        self.family.check(shape)
        return self.family.draw(random, index, shape)

    def bind(self, params: Params, shape: Shape) -> SeverityOperator:
        return self.family.at(self.severity, params, shape)
