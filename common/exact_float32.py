"""Networks that measure: float32 as it is, whatever is around."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """float32 without autocast and TF32: what is measured must not depend on how the images were made."""
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
