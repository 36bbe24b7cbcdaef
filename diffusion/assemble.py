"""From options to a denoiser: one place that knows which of them go together, for training and for reading
checkpoints.
"""

from typing import cast

from torch import nn

from diffusion.continuous import ContinuousLevels
from diffusion.denoiser import DiscreteDenoiser, NetworkDenoiser
from diffusion.edm import EDMDenoiser, LogNormal
from diffusion.flow import FlowDenoiser, FlowTimes
from diffusion.image_conditioning import ConditioningOptions, ImageConditionedDenoiser
from diffusion.published_denoiser import PublishedDenoiser, UniformLevels
from diffusion.schedules import Schedule, TrainingLevels

PREDICTIONS = ("epsilon", "x0", "v", "edm", "velocity")
#: Predictions in continuous time: (their training levels, what to set the schedule to).
CONTINUOUS: dict[str, tuple[type[ContinuousLevels], str]] = {
    "edm": (LogNormal, "diffusion.edm.LogNormal"),
    "velocity": (FlowTimes, "diffusion.flow.UniformTimes or diffusion.flow.LogitNormalTimes"),
}


def assemble(
    *,
    network: nn.Module,
    schedule: TrainingLevels,
    prediction: str,
    data_shape: tuple[int, int, int],
    variance: str = "fixed",
    sigma_data: float = 0.5,
    conditioning: ConditioningOptions | None = None,
) -> NetworkDenoiser:
    """The denoiser of a network: :class:`DiscreteDenoiser` for a Schedule, :class:`EDMDenoiser` for prediction "edm"
    with a LogNormal, :class:`FlowDenoiser` for prediction "velocity" with times of diffusion/flow.py,
    :class:`PublishedDenoiser` for prediction "x0" with UniformLevels.

    network: its channels are checked where it says them (`in_channels`, `out_channels`). variance: "fixed", or
    "learned_range" for a network of 2 C output channels. sigma_data: of prediction "edm". conditioning image: for a
    denoiser that takes one, see diffusion/image_conditioning.py. ValueError for options that contradict each other, in
    one sentence.
    """
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got '{prediction}'")
    continuous = prediction in CONTINUOUS
    if continuous and not isinstance(schedule, CONTINUOUS[prediction][0]):
        raise ValueError(
            f"prediction '{prediction}' is trained on a continuum of levels, not on {type(schedule).__name__}: set"
            f" schedule to {CONTINUOUS[prediction][1]}"
        )
    published = isinstance(schedule, UniformLevels) and prediction == "x0"
    if not continuous and not published and not isinstance(schedule, Schedule):
        fits = [name for name, (levels, _) in CONTINUOUS.items() if isinstance(schedule, levels)]
        raise ValueError(
            f"prediction '{prediction}' needs a schedule of diffusion.schedules, got {type(schedule).__name__}: change"
            f" it, or prediction to {' or '.join(fits or ['x0'])}"
        )
    if (continuous or published) and variance != "fixed":
        raise ValueError(
            f"variance '{variance}' needs a discrete schedule, and prediction '{prediction}' has none: set variance to"
            " fixed"
        )
    if conditioning is not None and (continuous or published or variance != "fixed"):
        raise ValueError(
            f"a conditioning image needs a discrete schedule and variance fixed, got prediction '{prediction}' and"
            f" variance '{variance}'"
        )
    _check_channels(
        network,
        data_shape[0],
        learned=variance == "learned_range",
        seen=conditioning is not None and conditioning.sees_image,
    )
    if isinstance(schedule, LogNormal):
        return EDMDenoiser(network=network, levels=schedule, sigma_data=sigma_data, data_shape=data_shape)
    if isinstance(schedule, FlowTimes):
        return FlowDenoiser(network=network, levels=schedule, data_shape=data_shape)
    if isinstance(schedule, UniformLevels):
        return PublishedDenoiser(network=network, levels=schedule, data_shape=data_shape)
    discrete = cast(Schedule, schedule)  # checked above
    if conditioning is not None:
        return ImageConditionedDenoiser(
            network=network, schedule=discrete, prediction=prediction, data_shape=data_shape, options=conditioning
        )
    return DiscreteDenoiser(
        network=network, schedule=discrete, prediction=prediction, data_shape=data_shape, variance=variance
    )


def _check_channels(network: nn.Module, channels: int, *, learned: bool, seen: bool = False) -> None:
    inputs, outputs = getattr(network, "in_channels", None), getattr(network, "out_channels", None)
    wanted = channels * (1 + seen)
    if inputs is not None and inputs != wanted:
        why = f"data_shape says {channels}" + (" and the conditioning image has as many" if seen else "")
        raise ValueError(f"the network has {inputs} input channels and {why}: set network.in_channels to {wanted}")
    if outputs is None or outputs == channels * (1 + learned):
        return
    if learned:
        wanted = 2 * channels
        raise ValueError(
            f"variance 'learned_range' needs {wanted} output channels, and the network has {outputs}: set"
            f" network.out_channels to {wanted}"
        )
    hint = ", or variance to learned_range" if outputs == 2 * channels else ""
    raise ValueError(
        f"the network has {outputs} output channels and data_shape says {channels}: set network.out_channels to"
        f" {channels}{hint}"
    )
