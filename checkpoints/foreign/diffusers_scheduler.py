"""The noise schedule of a diffusers folder, scheduler_config.json, as a schedule of ours and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import UserError, nearest
from diffusion.denoiser import DiscreteDenoiser, NetworkDenoiser
from diffusion.schedules import Cosine, Linear, ScaledLinear, Schedule, SigmoidBeta, Tabulated, ZeroTerminalSNR

# Schedulers that share DDPMScheduler's options of training, with what else they mean where a file does not say it.
_LATENT = {"beta_start": 0.00085, "beta_end": 0.012}
CLASSES: dict[str, dict[str, Any]] = {
    "DDPMScheduler": {},
    "DDIMScheduler": {},
    "DDIMInverseScheduler": {},
    "PNDMScheduler": {},
    "DPMSolverMultistepScheduler": {},
    "DPMSolverSinglestepScheduler": {},
    "DEISMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
    "DDPMParallelScheduler": {},
    "DDIMParallelScheduler": {},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    "HeunDiscreteScheduler": _LATENT,
    "KDPM2DiscreteScheduler": _LATENT,
    "KDPM2AncestralDiscreteScheduler": _LATENT,
    "LCMScheduler": _LATENT | {"beta_schedule": "scaled_linear"},
    "TCDScheduler": _LATENT | {"beta_schedule": "scaled_linear"},
}
# These have no rescale_betas_zero_snr: a file made from another scheduler's may keep it, and they pass it over.
_NEVER_RESCALED = {
    "PNDMScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "LMSDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
}
_TRAINING = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "variance_type": "fixed_small",
}
# How they sample, which here is said elsewhere.
_SAMPLING = frozenset(
    {
        "clip_sample",
        "clip_sample_range",
        "thresholding",
        "dynamic_thresholding_ratio",
        "sample_max_value",
        "timestep_spacing",
        "steps_offset",
        "set_alpha_to_one",
        "skip_prk_steps",
        "solver_order",
        "algorithm_type",
        "solver_type",
        "solver_p",
        "lower_order_final",
        "euler_at_final",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
        "final_sigmas_type",
        "lambda_min_clipped",
        "predict_x0",
        "disable_corrector",
        "timestep_values",
        "tensor_format",
        "interpolation_type",
        "original_inference_steps",
        "timestep_scaling",
        "sigma_min",
        "sigma_max",
    }
)
# Allowed with these values only, None: with any.
_NEUTRAL = {
    "use_flow_sigmas": (False, None),
    "flow_shift": (1.0, None),
    "use_dynamic_shifting": (False, None),
    "time_shift_type": None,
    "shift_terminal": (None,),
    "timestep_type": ("discrete",),
}
_PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


@dataclass(frozen=True)
class FoundSchedule:
    """schedule, and what the network gives: prediction "epsilon", "x0" or "v", variance "fixed" or "learned_range".

    Args:
        sampling: the file's other options.
    """

    schedule: Schedule
    prediction: str
    variance: str
    sampling: dict[str, Any]


def schedule_from_diffusers(config: Mapping[str, Any], where: str) -> FoundSchedule:
    """What a scheduler's config says of training; UserError that names the class, key or value without a meaning here.
    where: the file.
    """
    name = config.get("_class_name", "DDPMScheduler")
    if not isinstance(name, str) or name not in CLASSES:
        raise UserError(
            f"{where} is of the class {name}: only those that have DDPM's table of betas can be converted,"
            f" {', '.join(CLASSES)}"
        )
    given = {k: v for k, v in config.items() if not k.startswith("_")}
    old = given.pop("predict_epsilon", None)  # before prediction_type
    if old is not None:
        given.setdefault("prediction_type", "epsilon" if old else "sample")
    for key, value in given.items():
        if key in _NEUTRAL:
            if (allowed := _NEUTRAL[key]) is not None and value not in allowed:
                raise UserError(f"{where} has {key}={value!r}: only {' or '.join(map(repr, allowed))} can be converted")
            continue
        if key not in _TRAINING and key not in _SAMPLING:
            raise UserError(
                f"{where} has {key}={value!r}: this key is not known{nearest(key, [*_TRAINING, *_SAMPLING])} and cannot"
                " be converted"
            )
    full = _TRAINING | CLASSES[name] | {k: v for k, v in given.items() if k in _TRAINING}
    if name == "EulerDiscreteScheduler" and full["prediction_type"] == "original_sample":  # its other word for it
        full["prediction_type"] = "sample"
    prediction = _PREDICTIONS.get(full["prediction_type"])
    if prediction is None:
        raise UserError(
            f"{where} has prediction_type={full['prediction_type']!r}: only {', '.join(_PREDICTIONS)} can be converted"
        )
    if full["variance_type"] == "learned":
        raise UserError(f"{where} has variance_type='learned': only learned_range and fixed variances can be converted")
    try:
        schedule = _schedule(full)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if schedule is None:
        raise UserError(
            f"{where} has beta_schedule={full['beta_schedule']!r}: only linear, scaled_linear, squaredcos_cap_v2 and"
            " sigmoid can be converted"
        )
    if full["rescale_betas_zero_snr"] and name in _NEVER_RESCALED:
        raise UserError(
            f"{where} has rescale_betas_zero_snr=True, which a {name} passes over: write the class of a scheduler that"
            " the network was trained with, such as DDPMScheduler, or false where it was trained without"
        )
    if full["rescale_betas_zero_snr"]:
        schedule = ZeroTerminalSNR(schedule=schedule)
    variance = "learned_range" if full["variance_type"] == "learned_range" else "fixed"
    sampling = {k: v for k, v in given.items() if k in _SAMPLING}
    return FoundSchedule(
        schedule,
        prediction,
        variance,
        sampling | ({"variance_type": full["variance_type"]} if "variance_type" in given else {}),
    )


def schedule_to_diffusers(denoiser: NetworkDenoiser) -> dict[str, Any]:
    """scheduler_config.json of a DDPMScheduler that knows the same levels; UserError for a denoiser that has no table
    of them.
    """
    if not isinstance(denoiser, DiscreteDenoiser):
        raise UserError(
            f"prediction '{denoiser.prediction}' is trained on a continuum of levels, which diffusers' DDPMPipeline"
            " has not: only priors with a discrete schedule can be written as a diffusers folder"
        )
    schedule, rescaled = denoiser.schedule, False
    if isinstance(schedule, ZeroTerminalSNR):
        schedule, rescaled = schedule.base, True
    predictions = {ours: theirs for theirs, ours in _PREDICTIONS.items()}
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": len(schedule),
        **_betas(schedule),
        "prediction_type": predictions[denoiser.prediction],
        "variance_type": "learned_range" if denoiser.learns_variance else "fixed_small",
        "rescale_betas_zero_snr": rescaled,
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "thresholding": False,
        # With fewer steps than times "trailing" keeps the noisiest one. But it ends above time 0, where DDPMScheduler
        # adds learned noise to the finished image.
        "timestep_spacing": "leading" if denoiser.learns_variance else "trailing",
        "steps_offset": 0,
    }


def _schedule(full: Mapping[str, Any]) -> Schedule | None:
    steps, betas = full["num_train_timesteps"], full["trained_betas"]
    if betas is not None:
        if len(betas) != steps:
            raise ValueError(f"trained_betas has {len(betas)} numbers and num_train_timesteps is {steps}")
        return Tabulated(betas=list(betas))
    # Ours scale both ends by 1000 / T, theirs do not.
    ends = {key: full[key] * steps / 1000 for key in ("beta_start", "beta_end")}
    return {
        "linear": lambda: Linear(steps=steps, **ends),
        "scaled_linear": lambda: ScaledLinear(steps=steps, **ends),
        "sigmoid": lambda: SigmoidBeta(steps=steps, **ends),
        "squaredcos_cap_v2": lambda: Cosine(steps=steps),
    }.get(full["beta_schedule"], lambda: None)()


def _betas(schedule: Schedule) -> dict[str, Any]:
    """By its name where diffusers has one, so that the file can be read; else the table."""
    names = {Linear: "linear", ScaledLinear: "scaled_linear", SigmoidBeta: "sigmoid"}
    if isinstance(schedule, Linear | ScaledLinear | SigmoidBeta) and type(schedule) in names:
        scale = 1000 / len(schedule)
        return {
            "beta_schedule": names[type(schedule)],
            "beta_start": schedule.beta_start * scale,
            "beta_end": schedule.beta_end * scale,
            "trained_betas": None,
        }
    if isinstance(schedule, Cosine) and schedule.offset == 0.008:
        return {"beta_schedule": "squaredcos_cap_v2", "trained_betas": None}
    return {"beta_schedule": "linear", "trained_betas": schedule.betas.tolist()}
