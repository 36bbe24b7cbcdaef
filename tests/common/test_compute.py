"""FLOPs against closed forms; the peak is a number that a product can reach; what a processor cannot do is said."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common import compute
from common.compute import count_flops, matrix_peak, precisions, warn_of_slow_bfloat16
from diffusion.autocast import AutocastNetwork

ROOT = Path(compute.__file__).parent.parent


def test_convolutions_and_linear_layers():
    x = torch.zeros(2, 3, 8, 8)
    assert count_flops(lambda: nn.Conv2d(3, 5, 3, padding=1)(x)) == 2 * (2 * 5 * 8 * 8) * (3 * 9)
    assert count_flops(lambda: nn.Linear(8, 7)(x)) == 2 * (2 * 3 * 8) * 8 * 7
    assert count_flops(lambda: torch.relu(x)) == 0


def test_attention_is_two_products_whatever_the_kernel():
    q = torch.zeros(2, 4, 16, 8)
    assert count_flops(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * 2 * (2 * 4) * 16 * 16 * 8


def test_the_peak_moves_no_generator():
    matrix_peak.cache_clear()
    state = torch.get_rng_state()
    assert 1e6 < matrix_peak("cpu", torch.float32, torch.get_num_threads()) < 1e16
    assert torch.equal(torch.get_rng_state(), state)


def test_a_processor_without_bfloat16_says_so_once_and_computes_the_same(monkeypatch):
    monkeypatch.setattr(compute, "_warned", set())
    network, x = AutocastNetwork(nn.Conv2d(1, 2, 3)), torch.randn(1, 1, 6, 6)
    monkeypatch.setattr(compute, "cpu_multiplies_bfloat16", lambda: True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        expected = network(x)
    assert precisions("cpu") == (torch.float32, torch.bfloat16)
    monkeypatch.setattr(compute, "cpu_multiplies_bfloat16", lambda: False)
    with pytest.warns(UserWarning, match="no instructions for bfloat16") as caught, torch.no_grad():
        assert torch.equal(network(x), expected)
        network(x)
        warn_of_slow_bfloat16("cpu")
    assert len(caught) == 1 and precisions("cpu") == (torch.float32,)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_what_the_library_is_limited_to_is_seen():
    """oneDNN held to AVX2, as on a processor that has no more, answers no; and bfloat16 still works."""
    code = (
        "import torch; from common.compute import cpu_multiplies_bfloat16 as asked\n"
        "with torch.autocast('cpu', dtype=torch.bfloat16): out = torch.nn.Conv2d(1, 2, 3)(torch.ones(1, 1, 4, 4))\n"
        "print(asked(), out.dtype)"
    )
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    found = subprocess.run([sys.executable, "-c", code], env=limited, cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "torch.bfloat16"], found.stderr
