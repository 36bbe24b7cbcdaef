"""The first words of train.py's command line, answered before Lightning is imported: what can be known without it."""

import os
import re
from itertools import pairwise
from pathlib import Path

from common.errors import UserError, nearest
from common.yaml_files import read_yaml

SUBCOMMANDS = {
    "fit": "train; the same command again continues the run in its folder",
    "validate": "measure a checkpoint, or a released .safetensors file, on the validation images",
    "test": "the same on the test images",
    "predict": "draw images from a prior into a folder, with a grid",
}

HELP = """\
usage: train.py {{{names}}} --config FILE [--config FILE ...] [--OPTION=VALUE ...]

Trains a prior, or uses one that was trained.

subcommands:
{listed}

options that are often used:
  --config FILE      a YAML file of configs/train; given several times, later ones change earlier ones
  --run DIR          the run's folder, which is its state (default: runs/<name of the first config>)
  --seed N           one number for weights, noise and order of the data
  --prepare          fit: fetch and check what the config needs, train nothing
  --ckpt_path PATH   all but fit: the checkpoint (default: the run's last one)
  --find_batch       fit: how many images fit one device at once, and the options that keep the batch
  --output DIR       predict: the folder of the images (default: <run>/images)
  --num_images N     predict: how many

Any entry of a config is an option too: --trainer.max_steps=1000, --model.init_args.lr=1e-4.
  train.py fit --help                    lists all options of a subcommand
  train.py fit --model.help CLASS        lists those of a class, such as lightning_modules.ddpm.DDPM; --data.help too
  train.py fit --config FILE --print_config   prints a config with all its defaults
"""


def answered(words: list[str]) -> bool:
    """Whether the command line was a request for help, which is printed; else it is the parser's.

    Args:
        words: the command line without the program's name.

    Raises:
        UserError: no subcommand is given, there is none of this name, or a config is a file that does not exist,
            is empty, or is not YAML.
    """
    if not words:
        raise UserError(f"a subcommand is missing: python train.py {'|'.join(SUBCOMMANDS)} --config FILE; see --help")
    if words[0] in ("-h", "--help"):
        listed = "\n".join(f"  {name:<9}{what}" for name, what in SUBCOMMANDS.items())
        print(HELP.format(names=",".join(SUBCOMMANDS), listed=listed), end="")
        return True
    if not words[0].startswith("-") and words[0] not in SUBCOMMANDS:
        raise UserError(
            f"there is no subcommand '{words[0]}'{nearest(words[0], SUBCOMMANDS)}: choose one of"
            f" {', '.join(SUBCOMMANDS)}"
        )
    for name in _configs(words):
        # the parser also takes a config as YAML text: what is no path is left to it
        if re.fullmatch(r"[^\s{}]+\.ya?ml", name) and not os.path.exists(os.path.expanduser(name)):
            raise UserError(
                f"--config '{name}' does not exist{nearest(name, _shipped())}: those of this project are in"
                " configs/train"
            )
        if os.path.exists(os.path.expanduser(name)):
            read_yaml(os.path.expanduser(name))  # what is no YAML is said with file and line
    return False


def _configs(words: list[str]) -> list[str]:
    follows = [b for a, b in pairwise(words) if a in ("-c", "--config")]
    return follows + [w.partition("=")[2] for w in words if w.startswith("--config=")]


def _shipped() -> list[str]:
    root = Path(__file__).resolve().parent.parent
    return [str(p.relative_to(root)) for p in sorted((root / "configs").rglob("*.yaml"))]
