"""The command lines that are argparse's: a mistake is one sentence."""

import argparse
from typing import Any, NoReturn

from common.errors import UserError


class Parser(argparse.ArgumentParser):
    """Mistakes end as UserError, in one sentence without the usage in front of it; no abbreviated options, which hide a
    typing mistake.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")
