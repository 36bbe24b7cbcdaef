"""x0 drawn from a Gaussian about an estimate, times the likelihood of y: exactly where A is linear, by Langevin steps
for any A with a gradient.
"""

from torch import Tensor

from common.random_streams import NoiseSequence
from degradations.linear import proximal
from restoration.data_gradient import data_gradient
from restoration.posterior import Problem


def draw_exactly(
    problem: Problem, mean: Tensor, sigma: Tensor, tau: float, noise: NoiseSequence, *, stream: str
) -> Tensor:
    """x0 ~ exp(-|y - A x0|^2 / (2 tau^2) - |x0 - mean|^2 / (2 sigma^2)) for a linear A: the proximal step of mean +
    sigma z1 towards y + tau z2, which is that Gaussian (perturb and solve, Papandreou and Yuille 2010).

    Args:
        problem: y and A.
        mean: [B N, C, H, W].
        sigma: [B N], standard deviation about it.
        tau: standard deviation of y.
        noise: z1 is its next.
        stream: names the noise z2 of the measurement; another one in every draw.
    """
    operator = problem.operator
    white = problem.random.normal_batch(
        stream, problem.chains.index, problem.sample, operator.output_shape, mean.device
    ).to(mean)
    y = problem.y + tau * (white if operator.mask is None else white * operator.mask.to(white))
    return proximal(operator, mean + sigma.view(-1, 1, 1, 1) * noise.next().to(mean), y, (tau / sigma) ** 2)


def draw_by_langevin(
    problem: Problem, mean: Tensor, sigma: Tensor, tau: float, noise: NoiseSequence, *, steps: int, step_size: float
) -> Tensor:
    """The same by `steps` steps x <- x - h (grad |y - A x|^2 / (2 tau^2) + (x - mean) / sigma^2) + sqrt(2 h) z from the
    mean, h = step_size tau^2 / |A|^2, |A| a bound of the derivative where A is not linear; A needs a gradient alone.
    """
    operator, x, variance = problem.operator, mean, sigma.view(-1, 1, 1, 1).square()
    # Steps diverge from 2 / (|A|^2 / tau^2 + 1 / sigma^2) on: where y is noisier than x0 about its mean, sigma decides.
    h = (0.5 * variance.double()).clamp(max=step_size * tau**2 / operator.norm() ** 2)
    length, width = h.to(x), (2 * h).sqrt().to(x)
    for _ in range(steps):
        drift = data_gradient(operator, x, problem.y) / tau**2 + (x - mean) / variance
        x = x - length * drift + width * noise.next().to(x)
    return x
