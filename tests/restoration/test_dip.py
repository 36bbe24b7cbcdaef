"""Deep image prior as a method."""

import math

import pytest
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.identity import Identity
from degradations.mask import Mask
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from networks.untrained.skip import SkipArchitecture
from restoration.base import Unsupported
from restoration.deep_image_prior.terms.base import Term
from restoration.dip import DIP
from restoration.stopping.es_wmv import ESWMV
from restoration.stopping.fixed import FixedIterations
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping
from restoration.stopping.oracle import Oracle

RANDOM = RandomStreams(0)


def tiny(**options) -> DIP:
    defaults = {
        "architecture": SkipArchitecture(preset="small", channels=[4, 6], inputs=3),
        "stopping": FixedIterations(iterations=6),
        "iterations": 8,
    }
    return DIP(**{**defaults, **options})


def measured(count: int = 2, degradation=None) -> Measurement:
    x = torch.stack([RANDOM.normal("x", i, 0, (1, 16, 16)).clamp(-1, 1) for i in range(count)])
    return measure(
        x,
        degradation=degradation or Identity(),
        noise=GaussianNoise(sigma_255=10),
        index=list(range(4, 4 + count)),
        random=RANDOM,
    )


@pytest.mark.parametrize("together", [1, 3, 16])
def test_images_are_the_same_in_any_grouping(together):
    m = measured(3)
    alone = torch.cat([tiny().restore(m.pick([b]), num_samples=2, random=RANDOM).samples for b in range(3)])
    found = tiny(together=together).restore(m, num_samples=2, random=RANDOM)
    assert found.samples.shape == (3, 2, 1, 16, 16)
    torch.testing.assert_close(found.samples, alone, rtol=0, atol=1e-4)
    assert not torch.allclose(found.samples[:, 0], found.samples[:, 1], atol=1e-2)  # another network, another input


def test_notes_and_curves_say_why_it_stopped():
    found = tiny(stopping=ESWMV(window=2, patience=2), iterations=12).restore(measured(1), random=RANDOM)
    assert (
        len(found.notes) == 1 and "iterations" in found.notes[0] and "answer is the averaged output" in found.notes[0]
    )
    assert math.isinf(found.trace["variance"][0]) and len(found.trace["variance"]) <= 12


def test_progress_counts_to_the_limit():
    seen = []
    tiny(workers=1).restore(
        measured(2), random=RANDOM, on_step=lambda step, steps, x: seen.append((step, steps, tuple(x.shape)))
    )
    assert [s[0] for s in seen] == [*range(6), *range(8, 14)] and {s[1:] for s in seen} == {(16, (2, 1, 16, 16))}


def test_super_resolution_gives_the_larger_picture():
    assert tiny().restore(measured(1, AveragePool(factor=2)), random=RANDOM).samples.shape == (1, 1, 1, 16, 16)


def test_the_global_generator_is_not_touched():
    torch.manual_seed(3)
    expected = torch.randn(1)
    torch.manual_seed(3)
    tiny(langevin=0.1).restore(measured(1), random=RANDOM)
    assert torch.equal(torch.randn(1), expected)


def test_an_oracle_is_starred():
    assert tiny(stopping=Oracle()).uses_truth and not tiny().uses_truth


def test_what_cannot_be_restored_is_said_before():
    nothing = Mask(torch.zeros(1, 1, 16, 16), channels=1)
    with pytest.raises(Unsupported, match="mask is 0 everywhere"):
        tiny().check(nothing, GaussianNoise(sigma_255=0))
    with pytest.raises(Exception, match=r"20x12 pixels \(width x height\), and this network needs at least 16 x 16"):
        DIP().check(Identity().bind({}, (1, 12, 20)), GaussianNoise(sigma_255=0))
    for wrong in ({"together": 0}, {"iterations": 0}, {"averaging": 2.0}):
        with pytest.raises(ValueError):
            tiny(**wrong)


def test_coordinates_as_input_get_a_network_that_takes_them():
    """`input: meshgrid` alone is enough; beside an architecture of other inputs it is refused when the method is made,
    whatever the image.
    """
    operator = Identity().bind({}, (1, 32, 32))
    settings = DIP(input="meshgrid").settings(operator)
    assert settings.input == "meshgrid" and settings.architecture.inputs == 2
    DIP(input="meshgrid").check(operator, GaussianNoise(sigma_255=25))
    with pytest.raises(ValueError, match="set its inputs to 2"):
        tiny(input="meshgrid")


def test_terms_are_asked_before_anything_runs():
    class Never(Term):
        def check(self, operator, noise):
            raise Unsupported("never")

        def begin(self, measurement, *, random, iterations):
            raise AssertionError

    with pytest.raises(Unsupported, match="never"):
        tiny(terms=[Never()]).check(Identity().bind({}, (1, 16, 16)), GaussianNoise(sigma_255=25))


def test_levels_that_the_iterations_never_reach_are_said_before_the_fit():
    """Refused where it cannot be, warned about where it hardly can; neither fits anything."""
    m, stopping = measured(1), MultiNoiseEarlyStopping(levels=[2.0, 1.0, 0.5], patience=200)
    with pytest.raises(UserError, match="3 levels cannot be reached in 500 iterations"):
        tiny(iterations=500, stopping=stopping).restore(m, random=RANDOM)
    with pytest.warns(UserWarning, match="the last of 3 levels is reached only where"):
        tiny(iterations=900, stopping=stopping).check(m.operator, m.noise)
