"""A denoiser that is told a conditioning image g of every image: a second input, or the mean of the forward process."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.tensor_shapes import AnyLevels, AnyTimes, Images, Sigma
from diffusion.denoiser import Condition, DiscreteDenoiser, Prediction, expand
from diffusion.schedules import Schedule

Form = Literal["conditional", "shifted", "residual"]


@dataclass(frozen=True)
class ConditioningOptions:
    """How a denoiser is told of a conditioning image g of every image.

    Args:
        form: "conditional": x_t = a x0 + b eps and the network sees (x_t, g). "shifted": x_t = a x0 + (1 - a) g + b
            eps, and the network sees (x_t - g, g): the chain ends in N(g, I) (mean shift; PriorGrad, Lee et al. 2022,
            2106.06406). "residual": the same for (x0 - g) / residual_std, which has variance 1 as the schedule expects;
            residual_std is the standard deviation of x0 - g over the training set.
        residual_std: standard deviation of x0 - g over the training set, of form residual.
        sees_image: false leaves g out of the network's inputs.
        last_time: fraction of the training times that exist, in (0, 1]; below 1 the chain is shortened and begins at g
            + sigma z, for which sigma at its end must drown x0 - g.

    Raises:
        ValueError: options out of range.
    """

    form: Form = "conditional"
    residual_std: float = 1.0
    sees_image: bool = True
    last_time: float = 1.0

    def __post_init__(self) -> None:
        if self.form not in ("conditional", "shifted", "residual"):
            raise ValueError(f"form must be conditional, shifted or residual, got '{self.form}'")
        if not self.residual_std > 0 or not 0 < self.last_time <= 1:
            raise ValueError(
                f"residual_std must be positive and last_time lie in (0, 1], got {self.residual_std} and"
                f" {self.last_time}"
            )
        if (self.form == "residual") == (self.residual_std == 1):
            raise ValueError(
                f"residual_std belongs to form residual, which needs one other than 1; got form {self.form} and"
                f" {self.residual_std}"
            )
        if self.form == "conditional" and not self.sees_image:
            raise ValueError("form conditional is the one that sees the conditioning image: set sees_image to true")


class ImageConditionedDenoiser(DiscreteDenoiser):
    """E[x0 | x, g] for x = x0 + sigma * noise and Condition(image=g), around a network that was trained on u = (x0 - g)
    / s (or u = x0, form conditional).

    u_x = (x - g) / s has the noise level sigma / s, so that x0 = g + s u_0(u_x, sigma / s): samplers and methods see
    an ordinary denoiser in x whose levels are s times those of the schedule, and need not know. Training asks about
    `inner(x0, g)`.

    Args:
        network: of C input channels, or 2 C where it sees g: called as network(concatenated input, time [B], label).
            Other arguments: see DiscreteDenoiser.
    """

    takes_image = True

    def __init__(
        self,
        *,
        network: nn.Module,
        schedule: Schedule,
        prediction: str,
        data_shape: tuple[int, int, int],
        options: ConditioningOptions,
    ) -> None:
        super().__init__(network=network, schedule=schedule, prediction=prediction, data_shape=data_shape)
        self.options = options
        self.scale = options.residual_std
        self.num_timesteps = max(2, round(options.last_time * len(schedule)))
        self.sigma_min, self.sigma_max = (
            self.scale * float(schedule.sigmas[0]),
            self.scale * float(schedule.sigmas[self.num_timesteps - 1]),
        )

    @property
    def shifts(self) -> bool:
        """Whether the network works on u = (x0 - g) / s."""
        return self.options.form != "conditional"

    def inner(self, x0: Tensor, conditioning: Tensor) -> Tensor:
        """What takes the place of x0 in training."""
        return (x0 - conditioning) / self.scale if self.shifts else x0

    def level_at(self, time: AnyTimes) -> AnyLevels:
        return self.scale * self.schedule.sigma_of(time)

    def output(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        if self.options.sees_image:
            x = torch.cat([x, _conditioning_image(condition).to(x.dtype)], 1)
        return super().output(x, time, condition)

    def predict(self, x: Images, sigma: Sigma, condition: Condition | None = None) -> Prediction:
        conditioning = _conditioning_image(condition)
        if not self.shifts:
            return super().predict(x, sigma, condition)
        found = super().predict((x - conditioning) / self.scale, sigma / self.scale, condition)
        x0 = conditioning + self.scale * found.x0
        return replace(found, x0=x0, eps=(x - x0) / expand(sigma, x))

    def _check(self, x: Tensor, sigma: Tensor) -> Tensor:
        # the limits are those of x, and this is asked about u
        return super()._check(x, sigma * self.scale) / self.scale

    def describe(self) -> dict[str, Any]:
        """What a checkpoint says of it beyond an ordinary denoiser."""
        return {name: getattr(self.options, name) for name in ("form", "residual_std", "sees_image", "last_time")}


def _conditioning_image(condition: Condition | None) -> Tensor:
    if condition is None or condition.image is None:
        raise UserError(
            "this prior was trained with a conditioning image and cannot work without one: use"
            " restoration.warm_start.WarmStart with a `first`, or restoration.dip_with_prior.DIPWithPrior"
        )
    return condition.image
