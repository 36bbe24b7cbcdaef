"""The measurement itself as its restoration: the row that says how bad the images were."""

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported


class Degraded(Method):
    """x = y, unchanged: only where a measurement is a picture of the shape of its image. Deterministic, no network
    call.
    """

    deterministic = True

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        description = operator.description or type(operator).__name__
        if not operator.shows_image:
            raise Unsupported(f"degraded shows the measurement as an image, and that of {description} is none")
        if tuple(operator.output_shape) != tuple(operator.input_shape):
            measured, image = ("x".join(map(str, s)) for s in (operator.output_shape, operator.input_shape))
            raise Unsupported(
                f"degraded shows the measurement as an image, and that of {description} is {measured} for an image of"
                f" {image}"
            )

    def calls(self) -> Cost:
        return Cost()

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del num_samples, random
        self.check(measurement.operator, measurement.noise)
        if on_step is not None:
            on_step(0, 1, measurement.y)
        return Restoration(samples=measurement.y.unsqueeze(1))
