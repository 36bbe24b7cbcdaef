"""PnP-Flow on Gaussian data, where the mean of the samples obeys a recursion without noise: the denoiser is linear."""

import pytest
import torch
from posterior_worlds import WORLDS, gaussian_prior
from restoration_worlds import OneStream

from restoration.pnp_flow import PnPFlow


@pytest.mark.parametrize("world", WORLDS)
def test_the_mean_of_the_samples_follows_the_recursion(world):
    prior, measurement = gaussian_prior(), WORLDS[world]().measurement
    operator, y, steps, power = measurement.operator, measurement.y, 20, 0.5
    method = PnPFlow(prior=prior, steps=steps, draws=2, step_size=0.8, power=power, clip=False)
    found = method.restore(measurement, num_samples=2000, random=OneStream(3)).samples[0]
    x = operator.pseudo_inverse(y)
    for i in range(1, steps):
        t = i / steps
        z = x - 0.8 * (1 - t) ** power / operator.norm() ** 2 * operator.adjoint(operator(x) - y)
        x = prior.predict(z, torch.full((1,), (1 - t) / t).double()).x0
    error = 4 * found.std(0) / 2000**0.5 + 1e-6
    assert bool(((found.mean(0) - x[0]).abs() < error).all())
