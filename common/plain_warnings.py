"""Warnings as a person reads them."""

import contextlib
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings as one line each on standard error, the same one once."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in seen:
            seen.add(text)
            print(f"warning: {text}", file=sys.stderr, flush=True)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
