"""The comparison of the network's switches runs, and a switch changes how long the network takes, not what
it computes.
"""

import torch
from helpers import call

from common.compute import precisions


def test_the_command():
    result = call("-m", "benchmarks.unet_switches", "--quick", "--markdown")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("| channels_last |") == 2 * len(precisions("cpu"))
    assert ("autocast" in result.stdout) == (len(precisions("cpu")) == 2)


def test_both_sides_of_each_switch_are_the_same_network():
    from benchmarks.unet_switches import build, switches

    network = build(16, torch.device("cpu")).eval()
    x, clock = torch.randn(2, 3, 8, 8), torch.tensor([5.0, 900.0])
    for kind in ("training", "sampling"):
        for name, ((first, a), (second, b)) in switches(network, x, clock, kind, torch.float32, compiled=False).items():
            with torch.no_grad():
                assert (first.eval()(a, clock) - second.eval()(b, clock)).abs().max() < 1e-4, name
