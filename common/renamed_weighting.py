"""The loss weighting as earlier versions wrote it, a name with numbers beside it, and as it is now: a class."""

import re
from collections.abc import Callable
from typing import Any

from common.errors import UserError, nearest

#: name that was -> (class, {number beside it that was: option that is}).
WEIGHTINGS: dict[str, tuple[str, dict[str, str]]] = {
    "simple": ("diffusion.weighting.simple.Simple", {}),
    "target": ("diffusion.weighting.target.Target", {}),
    "min_snr": ("diffusion.weighting.min_snr.MinSNR", {"min_snr_gamma": "gamma"}),
    "soft_min_snr": ("diffusion.weighting.soft_min_snr.SoftMinSNR", {"min_snr_gamma": "gamma"}),
    "snr_plus_one": ("diffusion.weighting.snr_plus_one.SNRPlusOne", {}),
    "truncated_snr": ("diffusion.weighting.truncated_snr.TruncatedSNR", {}),
    "p2": ("diffusion.weighting.p2.P2", {"p2_k": "k", "p2_gamma": "gamma"}),
    "edm": ("diffusion.weighting.edm.EDM", {"sigma_data": "sigma_data"}),
}

#: numbers that stood beside it for the weighting alone (sigma_data is the network's too, and stays).
NUMBERS = {"min_snr_gamma": "gamma", "p2_k": "k", "p2_gamma": "gamma"}

Say = Callable[[str, str], None]


def weighting_class(value: Any, *, say: Say, whole: bool = False) -> Any:
    """`value` (plain) with ``weighting: NAME`` and its numbers as {class_path, init_args}, at every depth.

    Args:
        value: dictionaries, lists and text; a weighting of now comes back as it was.
        say: called with the old and the new name of what is replaced.
        whole: `value` is all that its class is given. Numbers without a name then belong to the default, which has
            none, and are left out; otherwise they change the weighting of an earlier file.
    """
    if isinstance(value, list):
        return [weighting_class(v, say=say) for v in value]
    if not isinstance(value, dict):
        return value
    of_class = isinstance(value.get("class_path"), str)
    found = {k: weighting_class(v, say=say, whole=of_class and k == "init_args") for k, v in value.items()}
    name = found.get("weighting")
    numbers = [k for k in NUMBERS if k in found]
    if isinstance(name, str) and name in WEIGHTINGS:
        path, options = WEIGHTINGS[name]
        say(f"weighting: {name}", f"weighting: {path}")
        given = {new: found[old] for old, new in options.items() if old in found}
        found["weighting"] = {"class_path": path, **({"init_args": given} if given else {})}
    elif name is None and numbers:
        for old in numbers:
            say(old, f"weighting.init_args.{NUMBERS[old]}")
        if not whole:
            found["weighting"] = {"init_args": {NUMBERS[k]: found[k] for k in numbers}}
    else:
        return found
    return {k: v for k, v in found.items() if k not in NUMBERS}


def weighting_words(words: list[str], *, say: Say) -> list[str]:
    """Words of a command line with ``--model.weighting NAME`` as its class and ``--model.p2_k K`` as an option of that,
    after the class that has it; UserError for a name that there never was.
    """
    found, later = [], []
    waiting: list[str] | None = None  # where the value of the option before belongs
    for word in words:
        if waiting is not None and not word.startswith("--"):
            if waiting[-1].endswith(".weighting"):
                word = _class_of(word, say)
            waiting.append(word)
            waiting = None
            continue
        waiting = None
        key, equal, value = word.partition("=")
        head, dot, last = key.rpartition(".")
        into = found
        if key.startswith("--") and dot and last in NUMBERS:
            say(last, f"weighting.{NUMBERS[last]}")
            key, into = f"{head}.weighting.{NUMBERS[last]}", later
        elif key.startswith("--") and dot and last == "weighting" and equal:
            value = _class_of(value, say)
        into.append(key + equal + value)
        if key.startswith("--") and not equal:
            waiting = into
    return found + later


def _class_of(name: str, say: Say) -> str:
    if name in WEIGHTINGS:
        say(f"weighting {name}", f"weighting {WEIGHTINGS[name][0]}")
        return WEIGHTINGS[name][0]
    classes = {path.rpartition(".")[2]: path for path, _ in WEIGHTINGS.values()}
    if not re.fullmatch(r"\w+", name):
        return name
    if name in classes:
        return classes[name]
    raise UserError(
        f"weighting must be a class of diffusion/weighting, such as diffusion.weighting.min_snr.MinSNR, got"
        f" '{name}'{nearest(name, [*WEIGHTINGS, *classes])}"
    )
