"""Cold sampling as a method: what it restores, with which severity, and what it refuses."""

import pytest
import torch
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.at_severity import AtSeverity
from degradations.box_mask import BoxMask
from degradations.clipped_gaussian_noise import ClippedGaussianNoise
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.severity.gaussian_blur import GaussianBlur
from degradations.severity.gaussian_mask import GaussianMask
from degradations.severity.gaussian_noise import GaussianNoiseFamily
from diffusion.cold import cold_sample, severities_from
from diffusion.cold_restorer import ColdRestorer
from restoration.base import Unsupported
from restoration.cold import ColdSampling

SHAPE = (1, 8, 8)
BLUR = GaussianBlur(steps=12, taps=5, std=0.6)


class Network(torch.nn.Module):
    """Something that depends on the image and on the severity."""

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.tanh(1.3 * x + 0.02 * time.view(-1, 1, 1, 1))


class Sharpens(torch.nn.Module):
    """Knows the one image that there is, at every severity: restores it from what was blurred as it is told, and no
    other.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, x: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        return self.image.expand_as(x)


def restorer(family=BLUR, network=None) -> ColdRestorer:
    return ColdRestorer(network=network or Network(), family=family, data_shape=SHAPE)


def images(count: int = 4) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def measured(family, severity: int, sigma: float = 0.0) -> Measurement:
    degradation, random = AtSeverity(family=family, severity=severity), RandomStreams(3)
    return measure(
        images(), degradation=degradation, noise=GaussianNoise(sigma=sigma), index=[5, 6, 7, 9], random=random
    )


@pytest.mark.parametrize("algorithm", ["direct", "naive", "improved"])
@pytest.mark.parametrize("family", [BLUR, GaussianMask(steps=9, start=2)], ids=["blur", "mask"])
def test_a_measurement_says_its_severity_and_what_was_drawn(family, algorithm):
    """The method is cold_sample with the operator's own parameters."""
    m = measured(family, 8)
    params = family.draw_batch(RandomStreams(3), [5, 6, 7, 9], SHAPE)
    for steps in (None, 3):
        method = ColdSampling(prior=restorer(family), algorithm=algorithm, steps=steps)
        found = method.restore(m, random=RandomStreams(0))
        walked = severities_from(8, steps)
        expected = cold_sample(restorer(family), family(images(), 8, params), walked, params, algorithm=algorithm)
        torch.testing.assert_close(found.samples[:, 0], expected)
        assert found.cost.nfe == (1 if algorithm == "direct" else len(walked) - 1)


def test_a_given_list_is_walked_from_the_measurements_own_severity():
    method = ColdSampling(prior=restorer(), severities=[12, 9, 4, 1, 0])
    expected = cold_sample(restorer(), measured(BLUR, 6).y, [6, 4, 1, 0], {})
    torch.testing.assert_close(method.restore(measured(BLUR, 6), random=RandomStreams(0)).samples[:, 0], expected)


def test_a_given_picture_is_restored_at_the_given_severity():
    m = measured(BLUR, 6)
    given = Measurement(y=m.y, operator=Identity().bind({}, SHAPE), noise=m.noise, index=m.index)
    known = ColdSampling(prior=restorer()).restore(m, random=RandomStreams(0))
    found = ColdSampling(prior=restorer(), severity=6).restore(given, random=RandomStreams(0))
    torch.testing.assert_close(found.samples, known.samples)
    assert found.trace["severity"] == [6.0] * 4


def test_the_severity_is_estimated_for_every_image_where_it_is_not_given():
    """A restorer that knows the image explains it only at the severity it was blurred with; images of several
    severities go their own ways.
    """
    image = images(1)
    prior = restorer(network=Sharpens(image))
    severities = torch.tensor([3, 11, 3, 7])
    y = BLUR(image.expand(4, -1, -1, -1), severities)
    m = Measurement(y=y, operator=Identity().bind({}, SHAPE), noise=GaussianNoise(sigma=0.0), index=(0, 1, 2, 3))
    found = ColdSampling(prior=prior).restore(m, random=RandomStreams(0))
    assert found.trace["severity"] == severities.double().tolist()
    torch.testing.assert_close(found.samples[:, 0], image.expand(4, -1, -1, -1), atol=1e-5, rtol=0)


def test_the_noise_of_a_hot_measurement_is_what_the_first_call_implies():
    family = GaussianNoiseFamily(steps=10)
    sigma = family.sigma_at(6)
    m, prior = measured(family, 6, sigma), restorer(family)
    z = family.noise_of(m.y, prior.predict(m.y, 6), torch.full((4,), 6))
    expected = cold_sample(prior, m.y, list(range(6, -1, -1)), {"noise": z})
    found = ColdSampling(prior=prior).restore(m, random=RandomStreams(0))
    torch.testing.assert_close(found.samples[:, 0], expected)
    assert found.cost.nfe == 7
    estimated = ColdSampling(prior=prior, estimated_noise=True).restore(m, random=RandomStreams(0))
    assert estimated.cost.nfe == 6 and not torch.allclose(estimated.samples, found.samples)
    with pytest.raises(Unsupported, match=r"has noise of sigma .*, and the task has 0\.1"):
        ColdSampling(prior=prior).check(m.operator, GaussianNoise(sigma=0.1))
    for operator in (m.operator, Identity().bind({}, SHAPE)):
        with pytest.raises(Unsupported, match="white noise of one level, and here is ClippedGaussianNoise"):
            ColdSampling(prior=prior, severity=6).check(operator, ClippedGaussianNoise(sigma=sigma))
    blurred = measured(BLUR, 6)
    ColdSampling(prior=restorer()).check(blurred.operator, ClippedGaussianNoise(sigma=sigma))  # which takes no sigma


@pytest.mark.parametrize(
    ("family", "degradation", "options", "match"),
    [
        (
            BLUR,
            AtSeverity(family=GaussianBlur(steps=13, taps=5, std=0.6), severity=6),
            {},
            "the restorer undoes .*12 steps.* here is .*13 steps",
        ),
        (BLUR, BoxMask(size=3), {}, "name the degradation by degradations.at_severity"),
        (BLUR, AtSeverity(family=BLUR, severity=0), {}, "severity 0 there is nothing"),
        (GaussianMask(steps=9), Identity(), {}, "use algorithm direct"),
        (GaussianMask(steps=9), Identity(), {"algorithm": "direct"}, "set severity"),
        (GaussianNoiseFamily(steps=9), Identity(), {}, "set severity"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_reason(family, degradation, options, match):
    operator = degradation.operator_for(SHAPE, [0], RandomStreams(0))
    with pytest.raises(Unsupported, match=match):
        ColdSampling(prior=restorer(family), **options).check(operator, GaussianNoise(sigma=0.0))


def test_the_same_constants_are_the_same_family():
    """Named by data set or written out; the direct algorithm needs nothing that was drawn."""
    written = GaussianBlur(data="cifar10", steps=20, taps=11, std=7, std_step=0, std_rate=0, border="circular")
    assert GaussianBlur(data="mnist").same_as(written) and not written.same_as(
        GaussianBlur(data="mnist", truncate=True)
    )
    mask = GaussianMask(steps=9)
    m = measured(mask, 4)
    given = Measurement(y=m.y, operator=Identity().bind({}, SHAPE), noise=m.noise, index=m.index)
    assert ColdSampling(prior=restorer(mask), algorithm="direct", severity=4).restore(
        given, random=RandomStreams(0)
    ).samples.shape == (4, 1, *SHAPE)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": 3, "severities": [3, 0]}, "not both"),
        ({"steps": 0}, "at least 1"),
        ({"severities": [3, 5, 0]}, "strictly decreasing"),
        ({"severity": 13}, r"severity must lie in 1\.\.12"),
        ({"estimated_noise": True}, "estimated_noise is for Gaussian noise"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        ColdSampling(prior=restorer(), **options)
