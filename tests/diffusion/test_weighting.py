import pytest
import torch

from diffusion.weighting import WEIGHTINGS, Weighting

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
    for prediction, table in (("epsilon", on_epsilon), ("x0", on_x0), ("v", on_v)):
        for name, expected in table.items():
            torch.testing.assert_close(
                Weighting(name, p2_k=1.5, p2_gamma=0.5)(snr, prediction), expected, rtol=1e-12, atol=0
            )
    for prediction in ("epsilon", "x0", "v", "edm"):
        assert torch.equal(Weighting("target")(snr, prediction), one)


def test_the_weights_of_edm():
    """lambda(sigma) = (sigma^2 + s^2) / (sigma s)^2 on x0 and 1 on F; the soft Min-SNR weight on F is (sigma s)^2 /
    (sigma^2 + s^2)^2 for g = 1 / s^2.
    """
    s, sigma = 0.4, SNR.rsqrt()
    lam = (sigma**2 + s**2) / (sigma * s) ** 2
    edm, soft = Weighting("edm", sigma_data=s), Weighting("soft_min_snr", min_snr_gamma=s**-2, sigma_data=s)
    torch.testing.assert_close(edm(SNR, "x0"), lam, rtol=1e-12, atol=0)
    torch.testing.assert_close(edm(SNR, "edm"), torch.ones_like(SNR), rtol=1e-12, atol=0)
    torch.testing.assert_close(soft(SNR, "edm"), (sigma * s) ** 2 / (sigma**2 + s**2) ** 2, rtol=1e-10, atol=0)
    # v is F for s = 1.
    torch.testing.assert_close(Weighting("edm", sigma_data=1.0)(SNR, "v"), torch.ones_like(SNR), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [w for w in WEIGHTINGS if w != "target"])
def test_one_weight_on_every_target(name):
    """MSE_epsilon = SNR MSE_x0, MSE_v = (SNR + 1) MSE_x0, MSE_F = (SNR + 1 / s^2) MSE_x0."""
    w = Weighting(name, sigma_data=0.3)
    x0 = w(SNR, "x0")
    for prediction, factor in (("epsilon", SNR), ("v", SNR + 1), ("edm", SNR + 0.3**-2)):
        torch.testing.assert_close(w(SNR, prediction) * factor, x0, rtol=1e-12, atol=0)


def test_limits():
    huge = Weighting("min_snr", min_snr_gamma=1e9)
    torch.testing.assert_close(huge(SNR, "v"), Weighting("simple")(SNR, "v"))
    soft = Weighting("soft_min_snr")(SNR, "x0")
    assert bool((soft <= Weighting("min_snr")(SNR, "x0")).all()) and float(soft[-1]) == pytest.approx(5, rel=1e-5)
    torch.testing.assert_close(Weighting("p2", p2_gamma=0.0)(SNR, "epsilon"), torch.ones_like(SNR))
    # Where nothing is left of the image the weight on v is finite, and 0 for those that count epsilon.
    nothing = torch.zeros(1, dtype=torch.float64)
    at_zero = {name: float(Weighting(name, sigma_data=0.5)(nothing, "v")) for name in WEIGHTINGS}
    assert at_zero == {
        "simple": 0,
        "target": 1,
        "min_snr": 0,
        "soft_min_snr": 0,
        "snr_plus_one": 1,
        "truncated_snr": 1,
        "p2": 0,
        "edm": 4,
    }


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": "p3"}, "one of simple, target.*'p3'"),
        ({"min_snr_gamma": 0.0}, "min_snr_gamma must be positive"),
        ({"p2_k": -1.0}, "p2_k"),
        ({"p2_gamma": -0.5}, "p2_gamma"),
        ({"sigma_data": float("inf")}, "sigma_data"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=match):
        Weighting(**options)
