"""One generator for all chains: the same seed gives the same noise, and it is standard normal."""

import torch

from common.one_stream import OneStream


def test_a_seed_is_its_noise():
    draws = []
    for seed in (1, 1, 2):
        random = OneStream(seed)
        with random.sequence("any", [0, 1], [0, 0], (3,)) as noise:
            draws.append(torch.stack([random.normal_batch("other", [0, 1], [0, 0], (3,)), noise.next(), noise.next()]))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert draws[0].dtype == torch.float64 and len(draws[0].unique()) == draws[0].numel()


def test_it_is_standard_normal():
    x = OneStream(0).normal_batch("any", range(1000), range(1000), (50,))
    assert abs(float(x.mean())) < 0.02 and abs(float(x.std()) - 1) < 0.02
