"""The files in a folder of diffusers: its JSON, and its weights in one file or in several with an index, in full or in
half precision.
"""

import json
import re
from pathlib import Path, PureWindowsPath
from typing import Any

from torch import Tensor

from checkpoints.files import read_checkpoint_file
from checkpoints.foreign.base import only_tensors, read_tensors
from common.errors import UserError, disk_message

SAFETENSORS = "diffusion_pytorch_model.safetensors"


def _names(stem: str, ending: str, variant: str) -> tuple[str, ...]:
    """Of an index, today's and the one of before, and of one file with all weights."""
    if not variant:
        return f"{stem}.{ending}.index.json", f"{stem}.{ending}"
    return (
        f"{stem}.{ending}.index.{variant}.json",
        f"{stem}.{ending}.{variant}.index.json",
        f"{stem}.{variant}.{ending}",
    )


#: The names of files that say all weights, in the order in which they are looked for: diffusers' own before those of
#: other savers, full precision before half, safetensors before pickled ones, an index before a single file.
WEIGHTS = tuple(
    name
    for stem in ("diffusion_pytorch_model", "model")
    for variant in ("", "fp16")
    for ending in ("safetensors", "bin")
    for name in _names(stem, ending, variant)
)
INDICES = tuple(name for name in WEIGHTS if name.endswith(".json"))
_SHARD = re.compile(r"(diffusion_pytorch_)?model(\.\w+)?-\d+-of-\d+(\.\w+)?\.(safetensors|bin)")


def holds_weights(path: Path) -> bool:
    """Whether a path is a file of weights, or a part of them, that has a config beside it."""
    named = path.name in WEIGHTS or _SHARD.fullmatch(path.name) is not None
    return named and path.is_file() and (path.parent / "config.json").is_file()


def weights_in(folder: Path, where: str) -> Path:
    """The file that says all weights of a folder: of several the first of WEIGHTS; UserError where there is none."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is not None:
        return found
    others = sorted(
        p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".bin") or p.name.endswith(".index.json")
    )
    seen = f"; there are {', '.join(others[:4])}" if others else ""
    raise UserError(
        f"{where} has no weights: '{folder}' needs {SAFETENSORS} or diffusion_pytorch_model.bin, in one file or as an"
        f" index with its parts, in full precision or as .fp16{seen}"
    )


def read_weights(path: Path) -> tuple[dict[str, Tensor], list[Path]]:
    """The tensors of a file of weights, or of all the files that an index names, and every file that was read.

    UserError for a part that is missing, that lies in another folder, or that holds other tensors than the index says.
    """
    if _SHARD.fullmatch(path.name):
        raise UserError(
            f"'{path}' is one of several files of weights: give the folder '{path.parent}', or the index in it"
        )
    if path.suffix != ".json":
        return _tensors(path), [path]
    places = shards_of(path)
    tensors: dict[str, Tensor] = {}
    files = [path.with_name(name) for name in sorted(set(places.values()))]
    if gone := [file.name for file in files if not file.is_file()]:
        raise UserError(f"'{path}' names '{gone[0]}', which is not beside it: fetch it too ({len(gone)} are missing)")
    for file in files:
        found = _tensors(file)
        expected = {tensor for tensor, name in places.items() if name == file.name}
        if wrong := sorted(expected ^ set(found)):
            held = "lacks" if wrong[0] in expected else "also has"
            raise UserError(f"'{file}' is not the part that '{path.name}' names: it {held} '{wrong[0]}'")
        tensors |= found
    return tensors, [path, *files]


def shards_of(index: Path) -> dict[str, str]:
    """{tensor: name of the file that holds it} of an index; UserError for a name that leads out of its folder."""
    _, content = read_json(index, "the weights have no index")
    places = content.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UserError(f"'{index}' is no index of weights: it has no weight_map with the file of every tensor")
    ending = ".bin" if ".bin." in index.name else ".safetensors"
    for name in places.values():
        if not isinstance(name, str) or PureWindowsPath(name).name != name or not name.endswith(ending):
            raise UserError(
                f"'{index}' names the file {name!r}: only names of {ending} files in its own folder are read"
            )
    return places


def read_json(path: Path, complaint: str) -> tuple[Path, dict[str, Any]]:
    """The path and its mapping; UserError where there is none. complaint: what it means that the file is missing."""
    if not path.is_file():
        raise UserError(f"{complaint}: there is no '{path}'")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not JSON: {error}") from error
    except OSError as error:
        raise UserError(disk_message(error) or f"'{path}' cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds a {type(content).__name__}, not a configuration")
    return path, content


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)
    return only_tensors(read_checkpoint_file(path), path)
