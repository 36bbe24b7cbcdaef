"""The variational bound against what is known of Gaussian data: the optimal variance, the entropy, the papers'
formulas.
"""

import math

import pytest
import torch
from torch import nn

from diffusion.closed_form import GaussianDenoiser
from diffusion.denoiser import DiscreteDenoiser
from diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from diffusion.variational import bound_term, chain_time, pixel_nll, prior_bits, reverse_step_bits, variational_bound
from tests.diffusion.tools import normal

SHAPE, MEAN, STD = (1, 4, 4), 0.1, 0.2


class OptimalWithVariance(nn.Module):
    """v and the fraction u of the true variance, for independent pixels N(MEAN, STD^2): u = log(1 + d V) / log(beta /
    beta~), V = Var[x0 | x_t].

    offset: added to every u. At t = 0 the step ends in x0, whose variance V_0 is S_0.
    """

    def __init__(self, schedule, offset=0.0):
        super().__init__()
        self.schedule, self.offset = schedule, offset

    def forward(self, x, time, label=None):
        ab = self.schedule.alpha_bar_of(time.long()).view(-1, 1, 1, 1)
        before = self.schedule.alpha_bar_of((time.long() - 1).clamp(min=0)).view(-1, 1, 1, 1)
        a, b = ab.sqrt(), (1 - ab).sqrt()
        gain = a * STD**2 / (ab * STD**2 + 1 - ab)
        x0 = MEAN + gain * (x - a * MEAN)
        left = STD**2 * (1 - ab) / (ab * STD**2 + 1 - ab)
        d = before / (1 - before) - ab / (1 - ab)
        u = torch.log1p(d * left) / ((1 - ab) / (1 - before)).log()
        first = (
            self.schedule.betas[0].log(),
            self.schedule.betas[1].log() + (before / before * (1 - self.schedule.alphas_bar[0])).log(),
        )
        small = first[1] - (1 - self.schedule.alphas_bar[1]).log()
        u = torch.where(time.view(-1, 1, 1, 1) == 0, (left.log() - small) / (first[0] - small), u) + self.offset
        return torch.cat([(a * x - x0) / b, 2 * u.expand_as(x) - 1], 1)


def denoiser(schedule, offset=0.0):
    return DiscreteDenoiser(
        network=OptimalWithVariance(schedule, offset),
        schedule=schedule,
        prediction="v",
        data_shape=SHAPE,
        variance="learned_range",
    )


def data(count):
    return (MEAN + STD * normal(count, *SHAPE)).clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)


def closed_form_term(schedule, t, u):
    """E KL at t of the optimal mean and a fraction u, in bits: (r + e^-r (1 + d V) - 1) / 2."""
    ab, before = schedule.alphas_bar[t], schedule.alphas_bar[t - 1]
    left = STD**2 * (1 - ab) / (ab * STD**2 + 1 - ab)
    r = u * math.log(float((1 - ab) / (1 - before)))
    d = float(before / (1 - before) - ab / (1 - ab))
    return 0.5 * (r + math.exp(-r) * (1 + d * float(left)) - 1) / math.log(2)


@pytest.mark.parametrize(
    "schedule", [Linear(), Cosine(), ZeroTerminalSNR(schedule=Linear())], ids=["linear", "cosine", "zero_snr"]
)
@pytest.mark.parametrize("t", [1, 40, 500, 999])
def test_the_terms_of_gaussian_data(schedule, t):
    """The mean over many images is the closed form, for both fixed variances and the learned one, which is the least of
    all.
    """
    x0, noise, time = data(4000), normal(4000, *SHAPE, seed=1), torch.full((4000,), t)
    x0 = MEAN + STD * normal(4000, *SHAPE)  # not rounded: the closed form is of the normal distribution
    ask = lambda d, variance: bound_term(d, x0, noise, time, variance=variance, clip=False)  # noqa: E731
    d = denoiser(schedule)
    for variance, u in (("fixed_small", 0.0), ("fixed_large", 1.0)):
        found = ask(d, variance)
        assert float(found.mean()) == pytest.approx(
            closed_form_term(schedule, t, u), abs=5 * float(found.std()) / 4000**0.5 + 1e-15
        )
    best = ask(d, "learned").mean()
    others = [ask(denoiser(schedule, o), "learned").mean() for o in (-0.2, 0.2)] + [
        ask(d, "fixed_small").mean(),
        ask(d, "fixed_large").mean(),
    ]
    # Where nothing is left of the image the two bounds of the variance are equal to 4e-9, and the terms to rounding.
    assert all(float(best) < float(o) + (1e-14 if schedule.ends_in_noise and t == 999 else 0) for o in others)


def test_the_least_term_is_at_the_optimal_variance():
    schedule, d = Linear(), denoiser(Linear())
    for t in (1, 10, 300, 900):
        fraction = (d.network(torch.zeros(1, *SHAPE, dtype=torch.float64), torch.tensor([t])).chunk(2, 1)[1] + 1) / 2
        u = float(fraction.mean())
        assert 0 < u < 1 and all(
            closed_form_term(schedule, t, u) < closed_form_term(schedule, t, u + o) for o in (-0.01, 0.01)
        )


@pytest.mark.parametrize(
    "schedule", [Cosine(steps=300), ZeroTerminalSNR(schedule=Linear(steps=300))], ids=["cosine", "zero_snr"]
)
def test_the_whole_bound_is_the_entropy(schedule):
    """With the true reverse chain the bound is tight: the cross entropy of 8-bit values, h(N) - log2(2 / 255), to the
    blur of the decoder.

    The chain from x_0 upwards is exact; only p(x0 | x_0), a normal of std about 0.01 over bins of width 0.0078, loses a
    little.
    """
    count = 400
    x0 = data(count)
    bound = variational_bound(denoiser(schedule), x0, lambda t: normal(count, *SHAPE, seed=100 + t))
    values = ((x0 - MEAN) / STD).square().mean((1, 2, 3))
    exact = (0.5 * math.log(2 * math.pi * STD**2) + 0.5 * values) / math.log(2) - math.log2(2 / 255)
    difference = bound.total - exact
    assert bound.chain.shape == (count, 299) and bound.total.dtype == torch.float64
    assert abs(float(difference.mean())) < 0.02 + 4 * float(difference.std()) / count**0.5
    assert float(difference.mean()) > -4 * float(difference.std()) / count**0.5 - 1e-3
    # The fixed variances need more bits.
    for variance in ("fixed_small", "fixed_large"):
        other = variational_bound(
            denoiser(schedule), x0[:50], lambda t: normal(50, *SHAPE, seed=100 + t), variance=variance
        )
        assert float(other.total.mean()) > float(bound.total[:50].mean())


def test_drawn_times_estimate_the_whole():
    schedule, count = Cosine(steps=60), 200
    x0, noise = data(count), lambda t: normal(count, *SHAPE, seed=t)
    whole = variational_bound(denoiser(schedule), x0, noise)
    split = [variational_bound(denoiser(schedule), x0, noise, times=range(k, 60, 2)) for k in (1, 2)]  # 30 and 29 times
    mean = (
        30 * (split[0].total - whole.prior - whole.decoder) + 29 * (split[1].total - whole.prior - whole.decoder)
    ) / 59
    torch.testing.assert_close(mean + whole.prior + whole.decoder, whole.total, rtol=1e-9, atol=1e-9)
    for times in ([], [0], [60]):
        with pytest.raises(ValueError, match=r"1 \.\. 59"):
            variational_bound(denoiser(schedule), x0, noise, times=times)


def test_times_of_the_chain():
    """1 / p(t) is what makes a sum over t of a mean: sum_t f(t) = E f(t) / p(t), exactly where u runs over all of [0,
    1).
    """
    u = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1_000_000
    for times in (2, 12, 1000):
        time, count = chain_time(u, times)
        assert int(time.min()) == 1 and int(time.max()) == times - 1
        for f in (lambda t: 1 / t, lambda t: t**0.5, torch.ones_like):
            every = torch.arange(1, times, dtype=torch.float64)
            assert float((f(time.double()) * count).mean()) == pytest.approx(float(f(every).sum()), rel=1e-3)
    assert chain_time(torch.tensor([0.0, 1.0]), 1000)[0].tolist() == [1, 999]


@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
@pytest.mark.parametrize("t", [1, 17, 600, 999])
def test_a_term_in_the_papers_words(schedule, t):
    """KL of N(mu~, beta~) and N(mu, S) by torch, with c1, c2, beta~ and S written out."""
    ab, before, beta = schedule.alphas_bar[t], schedule.alphas_bar[t - 1], schedule.betas[t]
    small = beta * (1 - before) / (1 - ab)
    c1, c2 = before.sqrt() * beta / (1 - ab), (1 - beta).sqrt() * (1 - before) / (1 - ab)
    x0, guess, x = normal(1, *SHAPE), normal(1, *SHAPE, seed=1), normal(1, *SHAPE, seed=2)
    u = normal(1, *SHAPE, seed=3)
    large = (u * beta.log() + (1 - u) * small.log()).exp()
    true = torch.distributions.Normal(c1 * x0 + c2 * x, small.sqrt())
    expected = torch.distributions.kl_divergence(
        true, torch.distributions.Normal(c1 * guess + c2 * x, large.sqrt())
    ).mean() / math.log(2)
    found = reverse_step_bits(denoiser(schedule), x0, guess, u, torch.tensor([t]))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_the_first_term_is_the_decoder():
    schedule, d = Linear(), denoiser(Linear())
    x0, guess = data(2), data(2) + 0.01
    second = float(schedule.betas[1] * (1 - schedule.alphas_bar[0]) / (1 - schedule.alphas_bar[1]))
    zero = torch.zeros(2, dtype=torch.long)
    for fraction, variance in (
        (0.0, second),
        (1.0, second),
        (torch.full_like(x0, 1.0), float(schedule.betas[0])),
        (torch.zeros_like(x0), second),
    ):
        expected = pixel_nll(x0, guess, torch.full_like(x0, 0.5 * math.log(variance))).mean((1, 2, 3)) / math.log(2)
        torch.testing.assert_close(reverse_step_bits(d, x0, guess, fraction, zero), expected, rtol=1e-9, atol=0)


def test_pixel_probabilities_sum_to_1_and_match_a_normal():
    values = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(1, 1, 16, 16)
    for mean, std in ((0.3, 0.05), (-0.99, 0.2), (1.4, 0.01), (0.0, 3.0)):
        nll = pixel_nll(values, torch.full_like(values, mean), torch.full_like(values, math.log(std)))
        assert float((-nll).exp().sum()) == pytest.approx(1, abs=1e-12)
        inside = torch.distributions.Normal(mean, std)
        middle = values.flatten()[100:156]
        expected = (inside.cdf(middle + 1 / 255) - inside.cdf(middle - 1 / 255)).clamp(min=1e-300).log()
        sure = expected > -20  # the difference of two numbers near 1 has no more digits
        torch.testing.assert_close(-nll.flatten()[100:156][sure], expected[sure], rtol=1e-6, atol=1e-6)


def test_pixel_nll_has_finite_values_and_gradients_everywhere():
    x0 = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).view(1, 1, 1, 5)
    for mean in (-30.0, -1.0, 0.0, 1.0, 30.0):
        for log_std in (-9.0, 0.0, 3.0):
            m, s = torch.full_like(x0, mean).requires_grad_(True), torch.full_like(x0, log_std).requires_grad_(True)
            nll = pixel_nll(x0, m, s)
            nll.sum().backward()
            assert (
                bool(nll.isfinite().all())
                and bool(m.grad.isfinite().all())
                and bool(s.grad.isfinite().all())
                and bool((nll >= 0).all())
            )


def test_close_to_the_tanh_approximation_of_the_papers():
    """Their distribution function 0.5 (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) is off by up to 3e-4."""
    x0, mean, log_std = (
        data(50),
        data(50) + 0.02 * normal(50, *SHAPE, seed=4),
        torch.full((50, *SHAPE), math.log(0.02), dtype=torch.float64),
    )

    def cdf(z):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    low, high = ((x0 - mean + s / 255) / 0.02 for s in (-1, 1))
    theirs = -(cdf(high) - cdf(low)).clamp(min=1e-12).log()
    assert float(theirs.mean()) == pytest.approx(float(pixel_nll(x0, mean, log_std).mean()), abs=5e-3)


def test_the_prior_term():
    """KL(N(a x0, 1 - ab) || N(0, 1)) by torch; 0 without a trace of the image."""
    x0, schedule = data(3), Linear()
    ab = schedule.alphas_bar[-1]
    normal_ = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal_(ab.sqrt() * x0, (1 - ab).sqrt()), normal_(0.0, torch.ones(1, dtype=torch.float64))
    )
    torch.testing.assert_close(
        prior_bits(denoiser(schedule), x0), expected.mean((1, 2, 3)) / math.log(2), rtol=1e-6, atol=1e-12
    )
    assert prior_bits(denoiser(ZeroTerminalSNR(schedule=schedule)), x0).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "schedule", [Linear(), Cosine(), ZeroTerminalSNR(schedule=Cosine())], ids=["linear", "cosine", "zero_snr"]
)
def test_the_learned_variance_is_that_of_x0(schedule):
    """Prediction.variance is Var[x0 | x] of the Gaussian, s^2 sigma^2 / (s^2 + sigma^2), at every training time."""
    d, times = denoiser(schedule), [0, 1, 30, 500, 998]
    sigma = schedule.sigmas[times]
    p = d.predict(MEAN + normal(5, *SHAPE) * (STD**2 + sigma**2).sqrt().view(-1, 1, 1, 1), sigma)
    exact = (STD**2 * sigma**2 / (STD**2 + sigma**2)).view(-1, 1, 1, 1).expand_as(p.variance)
    # the network is asked in float32, u of t = 998 carries its rounding
    torch.testing.assert_close(p.variance, exact.to(p.variance), rtol=2e-2, atol=0)
    assert p.fraction.shape == p.x0.shape and bool((denoiser(schedule, -9.0).predict(p.x0, sigma).variance >= 0).all())
    # Between two times it is that of the nearest one.
    between = d.predict(
        p.x0[2:3], torch.exp(torch.lerp(schedule.sigmas[30].log(), schedule.sigmas[31].log(), 0.3))[None]
    ).variance
    assert float(between.mean()) == pytest.approx(float(p.variance[2].mean()), rel=0.05)


def test_only_a_network_with_variance_has_one():
    exact = GaussianDenoiser(mean=0.0, covariance=1.0, data_shape=SHAPE)
    assert not exact.learns_variance and exact.predict(normal(1, *SHAPE), torch.ones(1)).variance is None
    plain = DiscreteDenoiser(network=nn.Identity(), schedule=Linear(), prediction="v", data_shape=SHAPE)
    with pytest.raises(ValueError, match="'learned' for a denoiser that learned it"):
        bound_term(plain, data(1), data(1), torch.tensor([3]))
