"""The parser of train.py: Lightning's, with errors of one sentence and the names of earlier versions."""

import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from common.errors import UserError, nearest
from common.private_names import destinations
from common.renamed import modernised, modernised_words
from training.plain_words import plain_words

_load_yaml = get_loader("yaml")


class Parser(LightningArgumentParser):
    """Refuses with one sentence and the nearest name, instead of forty lines of usage; takes no abbreviated options,
    which hide a typing mistake.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:
        """Class paths and options may have the names of earlier versions, in files and among the words."""
        set_loader("yaml", lambda text: modernised(_load_yaml(text)))
        return super().parse_args(modernised_words(list(sys.argv[1:] if args is None else args)), *rest, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        text = " ".join(str(message).split())
        if "arguments are required" in text and "model" in text:
            text = "no model and no data are given: name a config, --config configs/train/NAME.yaml"
        # of an entry without a class that the parser knows, such as model.training
        if "'dict' object has no attribute 'init_args'" in text:
            given = next(
                (w.partition(".class_path")[0] for w in sys.argv[1:] if re.match(r"--\w+\.[\w.]+\.class_path(=|$)", w)),
                "--model.training",
            )
            text = (
                f"{given}.class_path cannot be given by itself, because its options would remain those of another"
                " class: "
            )
            text += (
                f"give the whole entry, {given} '{{class_path: CLASS, init_args: {{...}}}}', or {given} CLASS for a"
                " class without options"
            )
        unknown = re.search(r"(?:Option|unrecognized arguments:|does not accept option) '?(?:--)?([\w.]+)", text)
        suggestion = nearest(unknown.group(1), self._known_names()) if unknown and "did you mean" not in text else ""
        text += suggestion
        # The parsers of classes call this too: the outermost one, which knows the whole key, puts it into plain words.
        if any(name.startswith("trainer.") for name in destinations(self)):
            text = plain_words(text, sys.argv[1:])
        raise UserError(text) from ex

    def _known_names(self) -> list[str]:
        """Options of this parser and of the classes of this project that a config has loaded."""
        names = destinations(self)
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in ("lightning_modules", "datamodules", "networks", "diffusion", "callbacks"):
                classes = [
                    c
                    for c in vars(module).values()
                    if inspect.isclass(c) and c.__module__ == name and not issubclass(c, BaseException)
                ]
                names += [p for c in classes for p in inspect.signature(c).parameters]
        return names
