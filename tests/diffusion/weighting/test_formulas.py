"""The weights in numbers: the papers' tables, and what each comes to in its limits."""

import pytest
import torch

from diffusion.weighting.edm import EDM
from diffusion.weighting.min_snr import MinSNR
from diffusion.weighting.p2 import P2
from diffusion.weighting.simple import Simple
from diffusion.weighting.snr_plus_one import SNRPlusOne
from diffusion.weighting.soft_min_snr import SoftMinSNR
from diffusion.weighting.target import Target
from diffusion.weighting.truncated_snr import TruncatedSNR

SNR = torch.logspace(-6, 6, 25, dtype=torch.float64)


def test_the_reference_table():
    """Reference sheet 1.4, with P2's own numbers."""
    snr, one = SNR, torch.ones_like(SNR)
    on_epsilon = {
        "simple": one,
        "snr_plus_one": (snr + 1) / snr,
        "truncated_snr": (1 / snr).clamp(min=1),
        "min_snr": snr.clamp(max=5) / snr,
        "p2": 1 / (1.5 + snr) ** 0.5,
    }
    on_x0 = {
        "simple": snr,
        "snr_plus_one": snr + 1,
        "truncated_snr": snr.clamp(min=1),
        "min_snr": snr.clamp(max=5),
        "p2": on_epsilon["p2"] * snr,
    }
    on_v = {
        "simple": snr / (snr + 1),
        "snr_plus_one": one,
        "truncated_snr": snr.clamp(min=1) / (snr + 1),
        "min_snr": snr.clamp(max=5) / (snr + 1),
        "p2": on_epsilon["p2"] * snr / (snr + 1),
    }
    weightings = {
        "simple": Simple(),
        "snr_plus_one": SNRPlusOne(),
        "truncated_snr": TruncatedSNR(),
        "min_snr": MinSNR(),
        "p2": P2(k=1.5, gamma=0.5),
    }
    for prediction, table in (("epsilon", on_epsilon), ("x0", on_x0), ("v", on_v)):
        for name, expected in table.items():
            torch.testing.assert_close(weightings[name](snr, prediction), expected, rtol=1e-12, atol=0)
    for prediction in ("epsilon", "x0", "v", "edm"):
        assert torch.equal(Target()(snr, prediction), one)


def test_the_weights_of_edm():
    """lambda(sigma) = (sigma^2 + s^2) / (sigma s)^2 on x0 and 1 on F; the soft Min-SNR weight on F is (sigma s)^2 /
    (sigma^2 + s^2)^2 for g = 1 / s^2.
    """
    s, sigma = 0.4, SNR.rsqrt()
    lam = (sigma**2 + s**2) / (sigma * s) ** 2
    edm, soft = EDM(sigma_data=s), SoftMinSNR(gamma=s**-2)
    torch.testing.assert_close(edm(SNR, "x0"), lam, rtol=1e-12, atol=0)
    torch.testing.assert_close(edm(SNR, "edm", s), torch.ones_like(SNR), rtol=1e-12, atol=0)
    torch.testing.assert_close(soft(SNR, "edm", s), (sigma * s) ** 2 / (sigma**2 + s**2) ** 2, rtol=1e-10, atol=0)
    # v is F for s = 1.
    torch.testing.assert_close(EDM(sigma_data=1.0)(SNR, "v"), torch.ones_like(SNR), rtol=1e-12, atol=0)


def test_limits():
    torch.testing.assert_close(MinSNR(gamma=1e9)(SNR, "v"), Simple()(SNR, "v"))
    soft = SoftMinSNR()(SNR, "x0")
    assert bool((soft <= MinSNR()(SNR, "x0")).all()) and float(soft[-1]) == pytest.approx(5, rel=1e-5)
    torch.testing.assert_close(P2(gamma=0.0)(SNR, "epsilon"), torch.ones_like(SNR))
    # Where nothing is left of the image the weight on v is finite, and 0 for those that count epsilon.
    nothing = torch.zeros(1, dtype=torch.float64)
    none = [Simple(), MinSNR(), SoftMinSNR(), P2()]
    some = {Target(): 1, SNRPlusOne(): 1, TruncatedSNR(): 1, EDM(): 4}
    assert [float(w(nothing, "v")) for w in none] == [0] * 4
    assert [float(w(nothing, "v")) for w in some] == list(some.values())


def test_the_weighting_of_edm_has_the_sigma_data_of_the_network():
    EDM(sigma_data=0.5).check("v", 0.6)
    EDM(sigma_data=0.6).check("edm", 0.6)
    with pytest.raises(ValueError, match=r"has sigma_data 0\.5, .*for 0\.6: set model\.weighting"):
        EDM().check("edm", 0.6)
