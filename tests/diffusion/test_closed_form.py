import math

import pytest
import torch

from diffusion.closed_form import GaussianDenoiser, MixtureDenoiser
from diffusion.schedules import Cosine
from tests.diffusion.tools import COVARIANCE, MEAN, SHAPE, gaussian, normal

WEIGHTS, MEANS, COVARIANCES = [0.3, 0.7], [[-0.6, -0.3, 0.0], [0.5, 0.4, 0.1]], [0.02, COVARIANCE]


def mixture():
    return MixtureDenoiser(weights=WEIGHTS, means=MEANS, covariances=COVARIANCES, data_shape=SHAPE)


both = pytest.mark.parametrize("make", [gaussian, mixture])
LEVELS = {
    "number": torch.tensor([0.02, 0.5, 7.0], dtype=torch.float64),
    "map": torch.tensor([0.05, 1.0, 6.0], dtype=torch.float64).expand(3, 1, 1, 3),
    "maps": torch.tensor([0.05, 1.0, 6.0, 0.5, 2.0, 0.1, 3.0, 0.2, 0.3], dtype=torch.float64).view(3, 1, 1, 3),
}


@both
@pytest.mark.parametrize("kind", LEVELS)
def test_tweedie(make, kind):
    """eps = -sigma grad log p and x = x0 + sigma eps."""
    denoiser, sigma = make(), LEVELS[kind]
    x = normal(3, *SHAPE).requires_grad_(True)
    level = sigma.view(-1, 1, 1, 1) if sigma.ndim == 1 else sigma
    (score,) = torch.autograd.grad(denoiser.log_density(x, sigma).sum(), x)
    p = denoiser.predict(x, sigma)
    torch.testing.assert_close(p.eps, -level * score, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(p.x0 + level * p.eps, x, rtol=1e-11, atol=1e-11)
    assert p.x0.dtype == torch.float64


@both
def test_a_constant_map_is_a_number(make):
    x, denoiser = normal(2, *SHAPE), make()
    number, as_map = denoiser.predict(x, torch.full((2,), 0.7)), denoiser.predict(x, torch.full((2, 1, 1, 3), 0.7))
    torch.testing.assert_close(number.x0, as_map.x0, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(number.eps, as_map.eps, rtol=1e-10, atol=1e-12)


@both
def test_one_map_for_all_gives_what_each_row_gives(make):
    x, sigma, denoiser = normal(3, *SHAPE), LEVELS["map"], make()
    rows = torch.cat([denoiser.predict(x[k : k + 1], sigma[k : k + 1]).x0 for k in range(3)])
    torch.testing.assert_close(denoiser.predict(x, sigma).x0, rows, rtol=1e-12, atol=1e-14)
    other = torch.cat([sigma, LEVELS["maps"][:1] + 1])
    together = denoiser.predict(torch.cat([x, x[:1]]), other).x0[:3]
    torch.testing.assert_close(together, rows, rtol=1e-12, atol=1e-14)


def test_the_density_is_torchs():
    sigma = 0.4
    x = normal(5, *SHAPE)
    level = torch.full((5,), sigma, dtype=torch.float64)
    parts = []
    for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True):
        full = (
            torch.as_tensor(c, dtype=torch.float64) * torch.eye(3, dtype=torch.float64)
            if not isinstance(c, torch.Tensor)
            else c
        )
        normal_k = torch.distributions.MultivariateNormal(
            torch.tensor(m, dtype=torch.float64), full + sigma**2 * torch.eye(3, dtype=torch.float64)
        )
        parts.append(math.log(w) + normal_k.log_prob(x.flatten(1)))
    joint = torch.stack(parts, 1)
    torch.testing.assert_close(mixture().log_density(x, level), joint.logsumexp(1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mixture().responsibilities(x, level), joint.softmax(1), rtol=1e-10, atol=1e-12)


def test_the_posterior_mean_is_a_regression():
    """E[x0 | x] is the least-squares estimate: on draws, the residual x0 - x0(x) is orthogonal to functions of x."""
    torch.manual_seed(0)  # for torch.multinomial and MultivariateNormal, which take no generator here
    n, sigma, denoiser = 40000, 0.5, mixture()
    k = torch.multinomial(torch.tensor(WEIGHTS), n, replacement=True)
    roots = [0.02**0.5 * torch.eye(3, dtype=torch.float64), torch.linalg.cholesky(COVARIANCE)]
    z = normal(n, 3)
    x0 = torch.stack([torch.tensor(m, dtype=torch.float64) + z @ r.T for m, r in zip(MEANS, roots, strict=True)], 1)[
        torch.arange(n), k
    ]
    x = x0 + sigma * normal(n, 3, seed=1)
    residual = x0 - denoiser.predict(x.view(-1, *SHAPE), torch.full((n,), sigma)).x0.flatten(1)
    for f in (torch.ones_like(x), x, x.tanh(), x.square()):
        error = (residual * f).std(0) / n**0.5
        assert bool(((residual * f).mean(0).abs() < 4 * error).all())


def test_the_three_forms_of_a_covariance_agree():
    x, sigma = normal(4, *SHAPE), torch.full((4,), 0.3, dtype=torch.float64)
    identity = torch.eye(3, dtype=torch.float64)
    found = [GaussianDenoiser(mean=0.1, covariance=c, data_shape=SHAPE) for c in (0.2, [0.2, 0.2, 0.2], 0.2 * identity)]
    for other in found[1:]:
        torch.testing.assert_close(other.predict(x, sigma).x0, found[0].predict(x, sigma).x0, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(other.log_density(x, sigma), found[0].log_density(x, sigma), rtol=1e-12, atol=1e-12)
    single = MixtureDenoiser(weights=[1.0], means=[MEAN], covariances=[COVARIANCE], data_shape=SHAPE)
    torch.testing.assert_close(single.predict(x, sigma).x0, gaussian().predict(x, sigma).x0, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gaussian().data.covariance(), COVARIANCE, rtol=1e-12, atol=1e-14)


def test_the_flow_solves_its_equation():
    """dx / dsigma = eps(x, sigma), by a central difference; back and forth is the identity; it ends on the data."""
    denoiser, x, sigma, h = gaussian(), normal(2, *SHAPE), 0.8, 1e-5
    slope = (denoiser.flow(x, sigma, sigma + h) - denoiser.flow(x, sigma, sigma - h)) / (2 * h)
    torch.testing.assert_close(
        slope, denoiser.predict(x, torch.full((2,), sigma, dtype=torch.float64)).eps, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(denoiser.flow(denoiser.flow(x, 0.8, 20.0), 20.0, 0.8), x, rtol=1e-11, atol=1e-11)
    root = torch.linalg.cholesky(COVARIANCE + 50**2 * torch.eye(3, dtype=torch.float64))
    columns = denoiser.flow((MEAN + root.T).view(3, *SHAPE), 50.0, 0.0).flatten(1) - MEAN
    torch.testing.assert_close(columns.T @ columns, COVARIANCE, rtol=1e-9, atol=1e-10)


def test_types_and_levels():
    denoiser = gaussian(Cosine(steps=100))
    assert denoiser.num_timesteps == 100 and float(denoiser.level_at(torch.tensor([99]))) == pytest.approx(
        denoiser.sigma_max, rel=1e-12
    )
    p = denoiser.predict(torch.zeros(1, *SHAPE), torch.ones(1))
    assert p.x0.dtype == torch.float32 and p.eps.dtype == torch.float32
    # A point mass is data too.
    point = GaussianDenoiser(mean=0.5, covariance=0.0, data_shape=SHAPE).predict(normal(2, *SHAPE), torch.ones(2))
    assert bool((point.x0 == 0.5).all())


def test_refusals():
    lopsided = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for options in ({"mean": [1.0, 2.0]}, {"covariance": [1.0, 2.0]}, {"covariance": -1.0}, {"covariance": lopsided}):
        with pytest.raises(ValueError, match=r"(mean|covariance) must"):
            GaussianDenoiser(**{"mean": 0.0, "covariance": 1.0, "data_shape": SHAPE, **options})
    with pytest.raises(ValueError, match="equally many"):
        MixtureDenoiser(weights=[1.0], means=[0.0, 1.0], covariances=[1.0], data_shape=SHAPE)
    with pytest.raises(ValueError, match="sum to 1"):
        MixtureDenoiser(weights=[0.5, 0.6], means=[0.0, 1.0], covariances=[1.0, 1.0], data_shape=SHAPE)
    with pytest.raises(ValueError, match="data_shape"):
        GaussianDenoiser(mean=0.0, covariance=1.0, data_shape=(3,))
    with pytest.raises(ValueError, match="x must have shape"):
        gaussian().predict(torch.zeros(1, 1, 3, 1), torch.ones(1))
    for sigma in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="positive and finite"):
            gaussian().predict(torch.zeros(1, *SHAPE), torch.full((1,), sigma))
