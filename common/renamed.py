"""Names that files written by earlier versions use, and what they are called now: class paths and options, one table.

Configurations, checkpoints, banks and fingerprints name classes by their path. What was written once must open for
ever, and a finished row of results must not be thrown away because a file moved: look-ups go through :func:`current`
and :func:`modernised`, hashes through :func:`original`, which turns every name back into the first one it had.
"""

import re
import warnings
from typing import Any

from common.errors import UserError
from common.renamed_weighting import weighting_class, weighting_words

#: module that was -> module that is.
MODULES = {
    "checkpoints.adapted": "checkpoints.lora.apply",
    "checkpoints.adapters": "checkpoints.lora.files",
    "checkpoints.adm_flags": "checkpoints.foreign.adm_flags",
    "checkpoints.adm_layout": "checkpoints.foreign.adm_layout",
    "checkpoints.described": "checkpoints.files",
    "checkpoints.diffusers_config": "checkpoints.foreign.diffusers_config",
    "checkpoints.diffusers_layout": "checkpoints.foreign.diffusers_layout",
    "checkpoints.diffusers_scheduler": "checkpoints.foreign.diffusers_scheduler",
    "checkpoints.export_diffusers": "checkpoints.foreign.export_diffusers",
    "checkpoints.foreign": "checkpoints.foreign.base",
    "checkpoints.foreign_files": "checkpoints.foreign.detect",
    "checkpoints.import_adm": "checkpoints.foreign.import_adm",
    "checkpoints.import_diffusers": "checkpoints.foreign.import_diffusers",
    "checkpoints.merging": "checkpoints.lora.merging",
    "checkpoints.restorer": "checkpoints.cold_restorer",
    "datamodules.own_pictures": "datamodules.user_images",
    "diffusion.restorer": "diffusion.cold_restorer",
    "diffusion.with_guide": "diffusion.image_conditioning",
    "evaluation.catalogue": "inference.catalogue",
    "evaluation.cold_generation": "studies.cold_generation",
    "evaluation.differences": "evaluation.report.differences",
    "evaluation.dip_bank": "studies.dip_bank",
    "evaluation.fit_size": "inference.resize",
    "evaluation.guide_floor": "studies.conditioning_floor",
    "evaluation.guide_study": "studies.conditioning_study",
    "evaluation.invert": "studies.invert",
    "evaluation.iterates": "inference.iterates",
    "evaluation.one_shot": "studies.one_shot",
    "evaluation.own_degradation": "inference.degradation_options",
    "evaluation.own_noise": "inference.noise_estimate",
    "evaluation.own_picture": "inference.user_image",
    "evaluation.plots": "evaluation.report.plots",
    "evaluation.precision": "diffusion.autocast",
    "evaluation.prior_options": "checkpoints.prior_options",
    "evaluation.priors": "checkpoints.method_prior",
    "evaluation.report": "evaluation.report.html",
    "evaluation.restore_one": "inference.restore_one",
    "evaluation.severity_check": "studies.severity_check",
    "evaluation.sheets": "evaluation.report.sheets",
    "evaluation.statistics": "evaluation.report.statistics",
    "evaluation.stopping_study": "studies.stopping_study",
    "evaluation.stopping_tables": "studies.stopping_tables",
    "evaluation.tables": "evaluation.report.tables",
    "evaluation.wandb_entry": "evaluation.report.wandb_entry",
    "evaluation.wandb_log": "evaluation.report.wandb_log",
    "evaluation.wandb_run": "evaluation.report.wandb_run",
    "evaluation.watched": "inference.progress",
    "evaluation.yaml_files": "common.yaml_files",
    "lightning_modules.cli": "training.cli",
    "lightning_modules.ddpm_with_guide": "lightning_modules.image_conditioned_ddpm",
    "lightning_modules.non_finite": "callbacks.non_finite",
    "lightning_modules.prepare": "training.prepare",
    "restoration.dip_adam": "restoration.deep_image_prior.adam",
    "restoration.dip_fit": "restoration.deep_image_prior.fit",
    "restoration.dip_memory": "restoration.deep_image_prior.memory",
    "restoration.dip_settings": "restoration.deep_image_prior.settings",
    "restoration.dip_terms.adversarial": "restoration.deep_image_prior.terms.adversarial",
    "restoration.dip_terms.base": "restoration.deep_image_prior.terms.base",
    "restoration.dip_terms.denoiser": "restoration.deep_image_prior.terms.denoiser",
    "restoration.dip_terms.perceptual": "restoration.deep_image_prior.terms.perceptual",
    "restoration.dip_terms.tv": "restoration.deep_image_prior.terms.tv",
    "restoration.guide_bank": "restoration.conditioning_bank",
    "restoration.side_by_side": "restoration.deep_image_prior.threads",
}

#: class that was renamed, by its first path -> its path now.
CLASSES = {
    "checkpoints.restorer.LoadedRestorer": "checkpoints.cold_restorer.LoadedColdRestorer",
    "datamodules.own_pictures.OwnPictures": "datamodules.user_images.UserImages",
    "diffusion.denoiser.Question": "diffusion.denoiser.TrainingPair",
    "diffusion.restorer.Restorer": "diffusion.cold_restorer.ColdRestorer",
    "diffusion.with_guide.DenoiserWithGuide": "diffusion.image_conditioning.ImageConditionedDenoiser",
    "diffusion.with_guide.GuideOptions": "diffusion.image_conditioning.ConditioningOptions",
    "evaluation.config.Prior": "evaluation.prior_entry.Prior",
    "evaluation.tables.Column": "metrics.base.Column",
    "lightning_modules.cli.Parser": "training.parser.Parser",
    "lightning_modules.ddpm_with_guide.DDPMWithGuide": "lightning_modules.image_conditioned_ddpm.ImageConditionedDDPM",
    "restoration.guide_bank.GuideBank": "restoration.conditioning_bank.ConditioningBank",
    "restoration.guide_bank.Guides": "restoration.conditioning_bank.ConditioningImages",
}

#: class path of now -> {option that was: option that is}.
OPTIONS = {
    "diffusion.image_conditioning.ConditioningOptions": {"sees_guide": "sees_image"},
    "lightning_modules.image_conditioned_ddpm.ImageConditionedDDPM": {"sees_guide": "sees_image"},
    "restoration.deep_image_prior.terms.denoiser.DenoiserTerm": {"guide": "conditioning"},
    "restoration.dip_with_prior.DIPWithPrior": {"guide": "conditioning"},
    "studies.conditioning_study.Study": {"per_guide": "per_image"},
    "studies.conditioning_study.Variant": {"guide": "conditioning"},
}

_CLASS_PATH = re.compile(r"(?<![\w./])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w/])")
_warned: set[str] = set()


def current(class_path: str) -> str:
    """The path of now of a class ("package.module.Class") that may be named by an earlier one."""
    if class_path in CLASSES:
        return CLASSES[class_path]
    module, _, name = class_path.rpartition(".")
    return f"{MODULES[module]}.{name}" if module in MODULES else class_path


def original(value: Any) -> Any:
    """`value` (plain: dictionaries, lists, text) with every class path and option under its first name: what
    is hashed.
    """
    return _walked(value, _first_class, _FIRST_OPTIONS, warn=False)


def modernised(value: Any, *, warn: bool = True) -> Any:
    """`value` (plain) with every class path and option under its name of now.

    Args:
        value: dictionaries, lists and text as YAML gives them; what is not renamed comes back as it was.
        warn: say once for each name what it is called now, as is right for a file that a user can edit.

    Raises:
        UserError: an option is given under both of its names.
    """
    return weighting_class(_walked(value, current, OPTIONS, warn=warn), say=lambda a, b: _warn(a, b, warn=warn))


def modernised_words(words: list[str]) -> list[str]:
    """Words of a command line with the class paths and the options of now: ``--model.sees_guide=false`` too."""
    options = {old: new for renamed in OPTIONS.values() for old, new in renamed.items()}
    found = []
    for word in weighting_words(words, say=lambda a, b: _warn(a, b, warn=True)):
        key, equal, value = word.partition("=")
        if key.startswith("--"):
            head, dot, last = key.rpartition(".")
            if dot and last in options:
                _warn(last, options[last], warn=True)
                key = f"{head}.{options[last]}"
            found.append(key + equal + _CLASS_PATH.sub(_modern_path, value))
        else:
            found.append(_CLASS_PATH.sub(_modern_path, word))
    return found


def renamed_options(class_path: str, options: dict[str, Any], *, warn: bool = False) -> dict[str, Any]:
    """`options` of the class at `class_path` (of now) under their names of now; UserError where one has both names."""
    return _with_names(options, OPTIONS.get(class_path, {}), class_path, warn)


def _modern_path(match: re.Match[str]) -> str:
    new = current(match[0])
    _warn(match[0], new, warn=True)
    return new


def _first_class(class_path: str) -> str:
    if class_path in _FIRST_NAMES:
        return _FIRST_NAMES[class_path]
    module, _, name = class_path.rpartition(".")
    return f"{_FIRST_MODULES[module]}.{name}" if module in _FIRST_MODULES else class_path


_FIRST_MODULES = {new: old for old, new in MODULES.items()}
_FIRST_NAMES = {new: old for old, new in CLASSES.items()}
_FIRST_OPTIONS = {path: {new: old for old, new in names.items()} for path, names in OPTIONS.items()}


def _walked(value: Any, name_of: Any, options_of: dict[str, dict[str, str]], *, warn: bool) -> Any:
    if isinstance(value, dict):
        found = {k: _walked(v, name_of, options_of, warn=warn) for k, v in value.items()}
        path = value.get("class_path")
        if isinstance(path, str) and isinstance(found.get("init_args"), dict):
            names = options_of.get(current(path), {})
            found["init_args"] = _with_names(found["init_args"], names, str(path), warn)
        return found
    if isinstance(value, (list, tuple)):
        return [_walked(v, name_of, options_of, warn=warn) for v in value]
    if isinstance(value, str) and _CLASS_PATH.fullmatch(value):
        new = name_of(value)
        _warn(value, new, warn=warn)
        return new
    return value


def _with_names(options: dict[str, Any], names: dict[str, str], where: str, warn: bool) -> dict[str, Any]:
    for old, new in names.items():
        if old in options and new in options:
            raise UserError(f"{where}: '{old}' is called '{new}' now, and both are given: leave '{old}' out")
        if old in options:
            _warn(old, new, warn=warn)
    return {names.get(k, k): v for k, v in options.items()}


def _warn(old: str, new: str, *, warn: bool) -> None:
    if warn and old != new and old not in _warned:
        _warned.add(old)
        warnings.warn(f"'{old}' is called '{new}' now; the old name goes on working", FutureWarning, stacklevel=3)
