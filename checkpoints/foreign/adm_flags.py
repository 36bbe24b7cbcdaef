"""What a file of weights of guided-diffusion does not say: its flags, by name of a preset or from a YAML file beside
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from common.build import check_options
from common.errors import UserError, disk_message, nearest
from diffusion.schedules import Cosine, Linear, Schedule
from networks.unet_parts import level_widths

# As in openai/guided-diffusion, README.md; an empty channel_mult is the one of its image_size.
_ADM = {
    "num_channels": 256,
    "num_res_blocks": 2,
    "num_head_channels": 64,
    "attention_resolutions": "32,16,8",
    "learn_sigma": True,
    "class_cond": False,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "noise_schedule": "linear",
    "diffusion_steps": 1000,
}
_IMAGENET = _ADM | {"class_cond": True, "data": "ImageNet"}
PRESETS: dict[str, dict[str, Any]] = {
    # The network of ILVR and P2 weighting that DPS, DDRM's and DDNM's successors use as ffhq_10m.pt.
    "ffhq_256": (
        _ADM
        | {
            "image_size": 256,
            "num_channels": 128,
            "num_res_blocks": 1,
            "attention_resolutions": "16",
            "data": "FFHQ",
        }
    ),
    "imagenet_256_uncond": _IMAGENET | {"image_size": 256, "class_cond": False},
    "imagenet_256": _IMAGENET | {"image_size": 256},
    "imagenet_512": _IMAGENET | {"image_size": 512},
    "imagenet_128": (
        {k: v for k, v in _IMAGENET.items() if k != "num_head_channels"} | {"image_size": 128, "num_heads": 4}
    ),
    "imagenet_64": (
        _IMAGENET
        | {
            "image_size": 64,
            "num_channels": 192,
            "num_res_blocks": 3,
            "noise_schedule": "cosine",
            "dropout": 0.1,
            "use_new_attention_order": True,
        }
    ),
    "lsun_256": _ADM | {"image_size": 256, "dropout": 0.1, "data": "LSUN"},
}
_MULTIPLIERS = {512: (0.5, 1, 1, 2, 2, 4, 4), 256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}
# How it was trained or computed, which the weights already show or which does not matter to them.
_WITHOUT_EFFECT = frozenset(
    {
        "use_checkpoint",
        "use_fp16",
        "use_kl",
        "rescale_learned_sigmas",
        "sigma_small",
        "timestep_respacing",
        "model_path",
    }
)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The flags of guided-diffusion, under its names and with its defaults, and `data`, the name of the data set.

    Those of the second group are None where they were not given: the weights show them too, and a given one must agree
    with them. UserError for values that are out of range.
    """

    image_size: int
    noise_schedule: Literal["linear", "cosine"] = "linear"
    diffusion_steps: int = 1000
    num_heads: int = 4
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_new_attention_order: bool = False
    predict_xstart: bool = False
    rescale_timesteps: bool = False
    dropout: float = 0.0
    data: str = "unknown"

    num_channels: int | None = None
    num_res_blocks: int | None = None
    channel_mult: str | list[float] | None = None
    attention_resolutions: str | int | list[int] | None = None
    class_cond: bool | None = None
    learn_sigma: bool | None = None
    use_scale_shift_norm: bool | None = None
    resblock_updown: bool | None = None

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.diffusion_steps < 2:
            raise UserError(
                f"image_size must be positive and diffusion_steps at least 2, got {self.image_size} and"
                f" {self.diffusion_steps}"
            )
        if self.num_head_channels == -1 and self.num_heads < 1:
            raise UserError(f"num_heads must be at least 1, got {self.num_heads}")
        if self.num_head_channels == -1 and self.num_heads_upsample not in (-1, self.num_heads):
            raise UserError(
                f"num_heads_upsample must be -1 or num_heads, {self.num_heads}, got {self.num_heads_upsample}: our"
                " U-Net has one number of heads"
            )

    @property
    def heads(self) -> dict[str, int]:
        """The option of our U-Net."""
        return {"heads": self.num_heads} if self.num_head_channels == -1 else {"head_channels": self.num_head_channels}

    @property
    def schedule(self) -> Schedule:
        return {"linear": Linear, "cosine": Cosine}[self.noise_schedule](steps=self.diffusion_steps)

    def disagreements(self, network: Mapping[str, Any]) -> list[str]:
        """Which given flags the weights contradict, as "num_channels is 128 and the weights have 256". network: options
        that the weights show.
        """
        shown = {
            "num_channels": network["time_channels"],
            "num_res_blocks": network["blocks"],
            "class_cond": network["num_classes"] is not None,
            "learn_sigma": network["out_channels"] == 2 * network["in_channels"],
            "use_scale_shift_norm": network["time_condition"] == "scale_shift",
            "resblock_updown": network["resample"] == "residual",
            "channel_mult": [m * network["channels"] / network["time_channels"] for m in network["multipliers"]],
            "attention_resolutions": [self.image_size // 2**level for level in network["attention"]],
        }
        if len(network["multipliers"]) == 1:
            del shown["resblock_updown"]  # nothing changes resolution
        said = {name: getattr(self, name) for name in shown}
        said["channel_mult"] = (
            _numbers(said["channel_mult"], "channel_mult") or list(_MULTIPLIERS.get(self.image_size, ())) or None
        )
        if said["channel_mult"] is not None:
            # What they make is a whole width, rounded down.
            made = [int(m * network["time_channels"]) for m in said["channel_mult"]]
            if made == level_widths(network["channels"], network["multipliers"]):
                shown["channel_mult"] = said["channel_mult"]
        resolutions = _numbers(said["attention_resolutions"], "attention_resolutions")
        if resolutions is not None:
            # Where there is no such resolution, guided-diffusion has no attention.
            there = [self.image_size // 2**level for level in range(len(network["multipliers"]))]
            said["attention_resolutions"] = sorted((int(r) for r in resolutions if r in there), reverse=True)
        return [
            f"{name} is {_plain(said[name])} and the weights have {_plain(v)}"
            for name, v in shown.items()
            if said[name] is not None and said[name] != v
        ]


def flags_for(path: Path, preset: str | None) -> tuple[Flags, list[Path]]:
    """The flags for a file of weights, and the files that were read for them.

    preset: a name of PRESETS. None: a YAML file of the same name beside it, with flags as guided-diffusion calls them,
    or `preset: NAME`, or both, where a flag overrules the preset's. UserError where there is neither, and for unknown
    names.
    """
    if preset is not None:
        return _flags(_preset(preset, f"the preset for '{path}'"), f"preset {preset}"), []
    beside = next((p for suffix in (".yaml", ".yml") if (p := path.with_suffix(suffix)).is_file()), None)
    if beside is None:
        raise UserError(
            f"'{path}' holds weights of guided-diffusion, which do not say their schedule and heads: give a preset"
            f" ({', '.join(PRESETS)}), or write '{path.with_suffix('.yaml').name}' beside it, with preset: NAME or"
            " guided-diffusion's flags (docs/checkpoints.md)"
        )
    try:
        content = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"'{beside}' is not YAML: {error}") from error
    except OSError as error:
        raise UserError(disk_message(error) or f"'{beside}' cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"'{beside}' must be a mapping of guided-diffusion's flags, or preset: NAME")
    named = content.pop("preset", None)
    given = {name: value for name, value in content.items() if name not in _WITHOUT_EFFECT}
    return _flags((_preset(named, f"'{beside}'") if named is not None else {}) | given, f"'{beside}'"), [beside]


def _preset(name: Any, where: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise UserError(
            f"{where}: there is no preset '{name}'{nearest(str(name), PRESETS)}; there are {', '.join(PRESETS)}"
        )
    return PRESETS[name]


def _flags(given: Mapping[str, Any], where: str) -> Flags:
    try:
        return Flags(**check_options(Flags, dict(given), where=where))
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from error


def _numbers(value: Any, name: str) -> list[float] | None:
    """A list from "1,2,2", 16 or [1, 2, 2]; None from None and ""."""
    if value is None or value == "":
        return None
    try:
        return [float(v) for v in (value if isinstance(value, list) else str(value).split(","))]
    except ValueError as error:
        raise UserError(f"{name} must be numbers with commas between them, got '{value}'") from error


def _plain(value: Any) -> Any:
    return ",".join(f"{v:g}" for v in value) or "none" if isinstance(value, list) else value
