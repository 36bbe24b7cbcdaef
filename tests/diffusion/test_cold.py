"""The three algorithms in worlds where their results are formulas, in float64."""

import pytest
import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.base import Params, Shape
from degradations.severity.base import DegradedBy, SeverityFamily
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import CoveringMask, GaussianMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from degradations.severity.pixelation import Pixelation
from diffusion.cold import check_severities, cold_sample, severities_from
from diffusion.cold_restorer import ColdRestorer
from diffusion.denoiser import Condition, Denoiser, Prediction
from diffusion.samplers.ddim import DDIM

SHAPE: Shape = (1, 8, 8)
SEVERITIES = [6, 5, 3, 2, 1, 0]


class Ramp(SeverityFamily):
    """D(x, s) = x + s e, e fixed; or x + g(s) with any g."""

    def __init__(self, *, steps: int = 6, curved: bool = False) -> None:
        self.severities, self.curved, self.description = steps, curved, "ramp"

    def check(self, shape: Shape) -> None:
        """Images of every shape."""

    def degrade(self, x: Tensor, t: Tensor, params: Params) -> Tensor:
        size = t.to(x).view(-1, 1, 1, 1)
        return x + (size**3 if self.curved else size) * params["e"]

    def operator(self, t: int, params: Params, shape: Shape) -> DegradedBy:
        return DegradedBy(self, t, params, shape)


class Says(ColdRestorer):
    """Whatever a function says."""

    def __init__(self, family: SeverityFamily, says) -> None:
        super().__init__(network=torch.nn.Identity(), family=family, data_shape=SHAPE)
        self.says = says

    def predict(self, x: Tensor, severity: Tensor, condition: Condition | None = None) -> Tensor:
        return self.says(x, severity)


def images(count: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def wrong(x: Tensor, severity: Tensor) -> Tensor:
    """A restorer that is far from right, and differs at every severity."""
    return torch.sin(3 * x + severity.view(-1, 1, 1, 1)) - 0.3


def along(
    algorithm: str, restorer: ColdRestorer, x: Tensor, params: Params, severities=SEVERITIES, **options
) -> tuple[Tensor, list[Tensor]]:
    """The result, and what the restorer was shown."""
    shown = []
    says = restorer.says
    restorer.says = lambda x, s: (shown.append(x), says(x, s))[1]
    result = cold_sample(restorer, x, severities, params, algorithm=algorithm, **options)
    restorer.says = says
    return result, shown


@pytest.mark.parametrize("curved", [False, True])
def test_improved_sampling_does_not_depend_on_the_restorer_where_the_degradation_adds_something_fixed(curved):
    """x_s = D(x0, s) for every s, whatever R says; the naive algorithm ends at what the last R says."""
    family, x0 = Ramp(curved=curved), images()
    params = {"e": images(seed=1)}
    x = family(x0, 6, params)
    result, shown = along("improved", Says(family, wrong), x, params)
    for s, seen in zip(SEVERITIES, shown, strict=False):
        torch.testing.assert_close(seen, family(x0, s, params), atol=1e-11, rtol=0)
    torch.testing.assert_close(result, x0, atol=1e-11, rtol=0)
    naive, _ = along("naive", Says(family, wrong), x, params)
    assert (naive - x0).abs().max() > 0.5


FAMILIES = [
    GaussianBlur(steps=6, taps=5, std=1.5),
    GaussianMask(steps=6, start=3),
    Pixelation(steps=3),
    CoveringMask(steps=6),
    GaussianNoiseFamily(steps=6),
]


@pytest.mark.parametrize("algorithm", ["naive", "improved"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_with_a_perfect_restorer_every_iterate_is_the_degraded_image(family, algorithm):
    x0 = images()
    params = {
        n: v.double() if v.is_floating_point() else v
        for n, v in family.draw_batch(RandomStreams(0), [4, 7, 9], SHAPE).items()
    }
    severities = [s for s in SEVERITIES if s <= family.severities]
    x = family(x0, severities[0], params)
    result, shown = along(algorithm, Says(family, lambda x, s: x0), x, params, severities)
    for s, seen in zip(severities, shown, strict=False):
        torch.testing.assert_close(seen, family(x0, s, params), atol=1e-12, rtol=0)
    torch.testing.assert_close(result, x0, atol=1e-12, rtol=0)


def test_for_a_linear_degradation_errors_enter_through_the_increment_alone():
    """x_r = x_s - (D_s - D_r) x0': linear in what the restorer says."""
    family, x = GaussianBlur(steps=6, taps=5, std=1.5), images()
    restorer = Says(family, wrong)
    result, _ = along("improved", restorer, x, {}, [4, 2, 0])
    first = wrong(x, torch.full((3,), 4))
    x2 = x - (family(first, 4) - family(first, 2))
    second = wrong(x2, torch.full((3,), 2))
    torch.testing.assert_close(result, x2 - family(second, 2) + second, atol=1e-12, rtol=0)


class AsDenoiser(Denoiser):
    """A restorer of the Gaussian family asked in sigma: x0 of x / a at the severity whose sigma / a it is."""

    def __init__(self, restorer: Says) -> None:
        super().__init__()
        family = restorer.family
        self.restorer, self.data_shape = restorer, SHAPE
        self.table = torch.tensor(
            [family.sigma_at(t) / family.scale_at(t) for t in range(family.severities + 1)], dtype=torch.float64
        )
        self.sigma_min, self.sigma_max, self.num_timesteps = (
            float(self.table[1]),
            float(self.table[-1]),
            family.severities,
        )

    def level_at(self, time: Tensor) -> Tensor:
        return self.table[time.long() + 1]

    def predict(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        severity = (self.table[None] - sigma.double()[:, None]).abs().argmin(1)
        level = sigma.view(-1, 1, 1, 1)
        x0 = self.restorer.says(x / (1 + level.square()).sqrt(), severity)
        return Prediction(x0=x0, eps=(x - x0) / level)


def test_estimated_noise_is_ddim():
    family, z = GaussianNoiseFamily(steps=40), images(seed=2)
    restorer = Says(family, wrong)
    severities = severities_from(40, 11)
    cold, _ = along("improved", restorer, z, {"noise": z}, severities, estimated_noise=True)
    denoiser = AsDenoiser(restorer)
    sigmas = denoiser.table[torch.tensor(severities)]
    hot = DDIM().sample(denoiser, z / family.scale_at(40), sigmas, noise=None, clip=False)
    torch.testing.assert_close(cold, hot, atol=1e-11, rtol=0)


def test_fixed_noise_leaves_the_line_as_its_closed_form_says():
    """x_0 = x_T + sum over the steps of (a' - a) x0' + (b' - b) z."""
    family, z = GaussianNoiseFamily(steps=6), images(seed=2)
    result, shown = along("improved", Says(family, wrong), z, {"noise": z})
    expected = z.clone()
    for s, r, x in zip(SEVERITIES, SEVERITIES[1:], shown, strict=False):
        x0 = wrong(x, torch.full((3,), s))
        expected += (family.scale_at(r) - family.scale_at(s)) * x0 + (family.sigma_at(r) - family.sigma_at(s)) * z
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


def test_the_network_is_asked_at_the_papers_index_and_a_hot_restorer_is_a_denoiser():
    class Remembers(torch.nn.Module):
        def forward(self, x, time, label):
            self.time = time
            return 0.5 * x

    network = Remembers()
    family = GaussianNoiseFamily(steps=10)
    restorer = ColdRestorer(network=network, family=family, data_shape=SHAPE)
    x = images().float()
    x0 = restorer.predict(x, torch.tensor([1, 5, 10]))
    assert network.time.tolist() == [0.0, 4.0, 9.0]
    denoiser = restorer.as_denoiser()
    level = torch.tensor([family.sigma_at(t) / family.scale_at(t) for t in (1, 5, 10)])
    again = denoiser.predict(x * torch.tensor([1 / family.scale_at(t) for t in (1, 5, 10)]).view(-1, 1, 1, 1), level)
    torch.testing.assert_close(network.time, torch.tensor([0.0, 4.0, 9.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(again.x0, x0, atol=1e-5, rtol=0)
    with pytest.raises(TypeError, match="is no denoiser"):
        ColdRestorer(network=network, family=Ramp(), data_shape=SHAPE).as_denoiser()


def test_lists_of_severities():
    assert severities_from(20, 4) == [20, 15, 10, 5, 0]
    assert severities_from(3) == severities_from(3, 7) == [3, 2, 1, 0]
    assert severities_from(7, 1) == [7, 0]
    for start in range(1, 60):
        for steps in range(1, 60):
            check_severities(severities_from(start, steps), start)
    for bad in ([5], [5, 5, 0], [5, 1], [0], [9, 0], [3, 4, 0]):
        with pytest.raises(ValueError, match="strictly decreasing from at most 8 to 0"):
            check_severities(bad, 8)
    with pytest.raises(ValueError, match="at least 1"):
        severities_from(0)


def test_refusals():
    family = GaussianBlur(steps=6, taps=5)
    restorer, x = Says(family, wrong), images()
    with pytest.raises(ValueError, match="algorithm must be one of"):
        cold_sample(restorer, x, [3, 0], {}, algorithm="other")
    with pytest.raises(ValueError, match="estimated_noise is for the Gaussian family"):
        cold_sample(restorer, x, [3, 0], {}, estimated_noise=True)
    real = ColdRestorer(network=torch.nn.Identity(), family=family, data_shape=SHAPE)
    for severity in (0, 7, torch.tensor([1, 2, 9])):
        with pytest.raises(ValueError, match=r"severity must lie in 1\.\.6"):
            real.predict(x, severity)
    with pytest.raises(ValueError, match="whole numbers"):
        real.predict(x, torch.tensor([1.0, 2.0, 3.0]))
