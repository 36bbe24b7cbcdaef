"""What an evaluation of generated images is asked to do; a configuration with `samplers` is one of these."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError, nearest
from common.yaml_files import merge, override, read_yaml
from evaluation.config import written_out
from evaluation.entries import Spec, a_mapping, known_keys, named_entries, optional_number, spec_of, whole_number
from evaluation.generation.measures import DEFAULT_METRICS
from evaluation.prior_entry import Prior, plain_priors, prior_of
from evaluation.report.wandb_entry import WandbEntry

DEFAULT_FEATURES: Spec = {"class_path": "checkpoints.features.InceptionFeatures", "init_args": {}}


@dataclass(frozen=True)
class SamplerEntry:
    """A sampler {class_path, init_args} with each of its numbers of steps, on levels spaced as `spacing` says
    (diffusion/levels.py), and the prior's name.

    guidance, guidance_interval, guidance_rescale, label: for priors with classes; label None: image k has label k mod
    classes.
    """

    class_path: str
    steps: tuple[int, ...]
    init_args: dict[str, Any] = field(default_factory=dict)
    spacing: str = "trailing"
    prior: str = "default"
    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float = 0.0
    label: int | None = None


@dataclass(frozen=True)
class GenerationConfig:
    """num_images of every sampler and number of steps, measured against the `reference` split of `data` by the features
    of one network.

    reference_images: only so many of it, drawn without replacement. real_images: a row for num_images of the other
    split shows what real images reach. metrics: by class path, of sets of images alone.
    """

    data: Spec
    samplers: dict[str, SamplerEntry]
    features: Spec
    priors: dict[str, Prior] = field(default_factory=dict)
    reference: str = "train"
    reference_images: int | None = None
    real_images: bool = True
    metrics: dict[str, Spec] = field(default_factory=lambda: dict(DEFAULT_METRICS))
    num_images: int = 10_000
    seed: int = 0
    batch_size: int = 100
    title: str = ""
    wandb: WandbEntry = field(default_factory=WandbEntry)

    def plain(self) -> dict[str, Any]:
        """As dictionaries and lists, for YAML and for comparing."""
        plain = dataclasses.asdict(self)
        for entry in plain["samplers"].values():
            entry["steps"] = list(entry["steps"])
            entry["guidance_interval"] = (
                None if entry["guidance_interval"] is None else list(entry["guidance_interval"])
            )
        plain["priors"] = plain_priors(self.priors)
        return plain


def is_generation(paths: Sequence[str | Path]) -> bool:
    """Whether the files ask for samplers, not for restoration methods."""
    return any("samplers" in read_yaml(path) for path in paths)


def read_generation_config(paths: Sequence[str | Path], overrides: Sequence[tuple[str, str]] = ()) -> GenerationConfig:
    """Merge the files from left to right, apply (dotted path, YAML value) overrides, check; UserError that names file
    or option and key.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        content = read_yaml(path)
        known_keys(content, GenerationConfig, f"--config '{path}'")
        merged = written_out(merge(merged, content))
    names = [f.name for f in dataclasses.fields(GenerationConfig)]
    for dotted, text in overrides:
        dotted = "num_images" if dotted == "limit" else dotted
        head = dotted.split(".")[0]
        if head not in names:
            raise UserError(f"there is no option --{dotted}{nearest(head, names)}; see --help")
        merged = written_out(override(merged, dotted, text))
    return _parse(merged, " + ".join(f"'{p}'" for p in paths))


def _parse(raw: dict[str, Any], where: str) -> GenerationConfig:
    for key in ("data", "samplers"):
        if not raw.get(key):
            raise UserError(f"{where}: '{key}' is missing or empty")
    samplers = {n: _sampler(v, f"{where}, samplers.{n}") for n, v in named_entries(raw, "samplers", where)}
    if not samplers:
        raise UserError(f"{where}: every entry of 'samplers' was removed (null): keep at least one")
    priors = {n: prior_of(v, f"{where}, priors.{n}") for n, v in named_entries(raw, "priors", where)}
    for name, sampler in samplers.items():
        if sampler.prior not in priors:
            known = f"there are {', '.join(priors)}" if priors else "there are none, give --prior PATH"
            raise UserError(
                f"{where}, samplers.{name} needs the prior '{sampler.prior}', which priors does not"
                f" have{nearest(sampler.prior, priors)}; {known}"
            )
    reference = raw.get("reference", "train")
    if reference not in ("train", "test"):
        raise UserError(f"{where}: reference must be train or test, got '{reference}'")
    real = raw.get("real_images", True)
    if not isinstance(real, bool):
        raise UserError(f"{where}: real_images must be true or false, got {real!r}")
    metrics = merge(DEFAULT_METRICS, a_mapping(raw.get("metrics") or {}, f"{where}, metrics"))
    wandb = known_keys(a_mapping(raw.get("wandb") or {}, f"{where}, wandb"), WandbEntry, f"{where}, wandb")
    return GenerationConfig(
        data=spec_of(raw["data"], f"{where}, data"),
        samplers=samplers,
        features=spec_of(raw.get("features") or DEFAULT_FEATURES, f"{where}, features"),
        priors=priors,
        reference=reference,
        reference_images=optional_number(raw.get("reference_images"), f"{where}, reference_images", 2),
        real_images=real,
        metrics={
            n: spec_of(v, f"{where}, metrics.{n}") for n, v in named_entries({"metrics": metrics}, "metrics", where)
        },
        num_images=whole_number(raw.get("num_images", 10_000), 4, f"{where}, num_images"),
        seed=whole_number(raw.get("seed", 0), 0, f"{where}, seed"),
        batch_size=whole_number(raw.get("batch_size", 100), 1, f"{where}, batch_size"),
        title=str(raw.get("title") or ""),
        wandb=WandbEntry(**wandb).check(where),
    )


def _sampler(value: Any, where: str) -> SamplerEntry:
    value = dict(known_keys(a_mapping(value, where), SamplerEntry, where))
    spec = spec_of({k: value.pop(k) for k in ("class_path", "init_args") if k in value}, where)
    steps = value.pop("steps", None)
    steps = [steps] if isinstance(steps, int) and not isinstance(steps, bool) else steps
    if not isinstance(steps, list) or not steps:
        raise UserError(f"{where}.steps must be a number or a list of numbers of steps, got {steps!r}")
    counts = tuple(dict.fromkeys(whole_number(n, 1, f"{where}.steps") for n in steps))
    for name, kind in {"guidance": float, "guidance_rescale": float}.items():
        if name in value and (isinstance(value[name], bool) or not isinstance(value[name], (int, float))):
            raise UserError(f"{where}.{name} must be a {kind.__name__}, got {value[name]!r}")
    interval = value.pop("guidance_interval", None)
    if interval is not None and not (isinstance(interval, list) and len(interval) == 2):
        raise UserError(f"{where}.guidance_interval must be [low, high] in units of sigma, got {interval!r}")
    if value.get("label") is not None:
        whole_number(value["label"], 0, f"{where}.label")
    return SamplerEntry(**spec, **value, steps=counts, guidance_interval=None if interval is None else tuple(interval))
