"""What a device can do and how fast, and how much a network asks of it. Whoever depends on the processor asks here."""

import time
import warnings
from collections.abc import Callable
from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from common.private_names import mkldnn_multiplies_bfloat16

# Large enough that the multiplication, not its start, is timed; small enough for a fraction of a second.
_SIZES = {"cuda": 8192, "cpu": 1024}


@lru_cache(maxsize=1)
def cpu_multiplies_bfloat16() -> bool:
    """Whether torch's CPU library (oneDNN) has kernels in bfloat16 here: on x86 it needs AVX-512 with byte and word
    instructions; with AVX2 alone torch's own loops take some fifty times as long as float32.
    """
    return torch.backends.mkldnn.is_available() and mkldnn_multiplies_bfloat16()


def multiplies_bfloat16(device_type: str) -> bool:
    """Whether a device of this type ("cpu", "cuda", ...) multiplies in bfloat16 by instructions of its own."""
    if device_type == "cpu":
        return cpu_multiplies_bfloat16()
    return device_type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def precisions(device_type: str) -> tuple[torch.dtype, ...]:
    """The precisions worth measuring there: float32, and bfloat16 where there are instructions for it."""
    return (torch.float32, torch.bfloat16) if multiplies_bfloat16(device_type) else (torch.float32,)


def warn_of_slow_bfloat16(device_type: str) -> None:
    """One warning per process where bfloat16 was asked for and only slows down: results stay what was asked for."""
    if device_type not in _warned and not multiplies_bfloat16(device_type):
        _warned.add(device_type)
        warnings.warn(
            f"this {device_type} has no instructions for bfloat16, and is many times slower in it than in float32: take"
            " precision 32",
            stacklevel=2,
        )


_warned: set[str] = set()


@lru_cache(maxsize=8)
def matrix_peak(device_type: str, dtype: torch.dtype, threads: int) -> float:
    """FLOP/s of the fastest of several n x n matrix products in `dtype` on the present device, 2 n^3 each; measured,
    never a data sheet's number.

    `threads` (torch.get_num_threads()) keys the cache: on a CPU the peak is that of the threads in use. float32 on CUDA
    is TF32 where torch is set to it. About a fifth of a second on a CPU.
    """
    n = _SIZES.get(device_type, 4096)
    device = torch.device(device_type)
    # Random, since a GPU that multiplies ones needs less power and clocks higher; an own generator, since nothing may
    # move a global one.
    generator = torch.Generator(device=device).manual_seed(0)
    a, b = (torch.randn(n, n, device=device, generator=generator).to(dtype) for _ in range(2))
    best, spent, wait = float("inf"), 0.0, getattr(torch, device_type).synchronize
    with torch.no_grad(), torch.autocast(device_type, enabled=False):
        torch.mm(a, b)
        while spent < 0.2 or best == float("inf"):
            wait()
            start = time.perf_counter()
            torch.mm(a, b)
            wait()
            elapsed = time.perf_counter() - start
            best, spent = min(best, elapsed), spent + elapsed
    return 2 * n**3 / best


def count_flops(call: Callable[[], object]) -> int:
    """FLOPs of the matrix products and convolutions (a multiplication and an addition are two) that `call` does without
    gradients.

    Attention is counted as the two products that it is, whatever kernel computes it; element-wise work and
    normalisations are not counted.
    """
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
