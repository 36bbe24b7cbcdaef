"""The signals of the criteria estimate the error to the truth: means over many noises, in a world where the solver is
known.
"""

import pytest
import torch
from stopping_worlds import cosine_basis, gains, same_picture, smooth, unbiased
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.base import Degradation
from degradations.mask import Mask
from degradations.measurement import Measurement
from degradations.noise import GaussianNoise, Noise
from restoration.stopping.base import StoppingCriterion, Watch, images_mean
from restoration.stopping.held_out import HeldOutPixels
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping
from restoration.stopping.noisier_pair import NoisierPair
from restoration.stopping.recorrupted import RecorruptedPair
from restoration.stopping.sure import SURE

MANY, SIGMA = 500, 25 / 127.5
AGES = (3.0, 30.0, 300.0)


class UniformNoise(Noise):
    """White, but not Gaussian."""

    sigma = SIGMA

    def add(self, clean, index, random):
        drawn = torch.stack([random.uniform("measurement", i, 0, clean.shape[1:]) for i in index]).to(clean)
        return clean + self.sigma * 12**0.5 * (drawn - 0.5)

    def misfit(self, y, clean, mask=None):
        raise NotImplementedError("flat where it is finite")


def watch_of(criterion: StoppingCriterion, m: Measurement) -> Watch:
    return criterion.watch(m, random=RandomStreams(1), iterations=1000)


def look(watch: Watch, f: Tensor) -> dict[str, Tensor]:
    watch.update(1, f, f)
    return watch.values


def error(m: Measurement, f: Tensor) -> Tensor:
    """mean((A f - A x)^2) over measured values, [0, 1] units."""
    square = (m.operator(f) - m.operator(m.truth)).square() / 4
    return (
        images_mean(square)
        if m.operator.mask is None
        else images_mean(square) / images_mean(m.operator.mask.to(square).expand_as(square))
    )


def thresholded(y: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """A smoother that is not linear, soft thresholding in a cosine basis, and its divergence per value [B]."""
    basis = cosine_basis(y.shape[-1])
    c = basis @ y @ basis.T
    kept = c.abs() > threshold
    return basis.T @ (c.sign() * (c.abs() - threshold).clamp(min=0)) @ basis, images_mean(kept)


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize(
    "criterion", [MultiNoiseEarlyStopping(), MultiNoiseEarlyStopping(levels=[2.0, 1.0, 0.25]), SURE(level=0.3)]
)
def test_the_risk_is_the_error_and_the_leak_the_degrees_of_freedom(criterion, age):
    m = same_picture(MANY)
    watch = watch_of(criterion, m)
    f = smooth(watch.y, gains(age))
    values = look(watch, f)
    unbiased(values["risk"], error(m, f))
    unbiased(values["leak"], float(gains(age).mean()))


def test_the_risk_of_every_level_is_unbiased():
    """The noise of stage k judges the fit of target k."""
    m = same_picture(MANY)
    watch = watch_of(MultiNoiseEarlyStopping(levels=[1.0, 0.5]), m)
    watch.stage = torch.ones_like(watch.stage)
    watch._set_targets()
    f = smooth(watch.y, gains(30))
    unbiased(look(watch, f)["risk"], error(m, f))


def test_the_risk_of_a_smoother_that_is_not_linear():
    m = same_picture(MANY)
    watch = watch_of(MultiNoiseEarlyStopping(), m)
    f, freedom = thresholded(watch.y, 2 * SIGMA)
    values = look(watch, f)
    unbiased(values["risk"], error(m, f))
    unbiased(values["leak"], freedom)


def test_the_leak_needs_no_gaussian_measurement():
    """Stein's identity is used in the noise that was added alone; the value of the risk needs a Gaussian
    measurement.
    """
    m = same_picture(MANY, noise=UniformNoise())
    watch = watch_of(MultiNoiseEarlyStopping(levels=[1.0]), m)
    f, freedom = thresholded(watch.y, 2 * SIGMA)
    unbiased(look(watch, f)["leak"], freedom)


class Window(Degradation):
    """A hole of 6 x 7 pixels."""

    def bind(self, params, shape):
        mask = torch.ones(shape[1:])
        mask[3:9, 5:12] = 0
        return Mask(mask, channels=shape[0])


@pytest.mark.parametrize("degradation", [AveragePool(factor=2), Window()], ids=["average_pool", "mask"])
def test_other_operators(degradation):
    """The error is that of what is measured, A f to A x."""
    m = same_picture(MANY, degradation=degradation)
    size = m.y.shape[-1]
    for criterion, name, constant in [
        (MultiNoiseEarlyStopping(), "risk", 0.0),
        (RecorruptedPair(alpha=0.5), "error_to_other_copy", SIGMA**2 / 4 * 5),
        (NoisierPair(level=0.5, corrected=True), "error_to_other_copy", SIGMA**2 / 4 * 1.25),
    ]:
        watch = watch_of(criterion, m)
        f = m.operator.pseudo_inverse(smooth(watch.y, gains(30, size)))
        unbiased(look(watch, f)[name], error(m, f) + constant)


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_recorrupted_pair_is_unbiased(age, alpha):
    m = same_picture(MANY)
    watch = watch_of(RecorruptedPair(alpha=alpha), m)
    f = smooth(watch.y, gains(age))
    unbiased(look(watch, f)["error_to_other_copy"], error(m, f) + SIGMA**2 / 4 * (1 + alpha**-2))


def test_a_recorrupted_pair_with_half_of_sigma_has_the_bias_of_what_its_copies_share():
    """Noises n + a s w and n - s w / a with s = c sigma: their covariance is (1 - c^2) sigma^2, and the fit memorises d
    of it.
    """
    m, c, age = same_picture(MANY), 0.5, 100.0
    watch = watch_of(RecorruptedPair(alpha=0.5, sigma_255=25 * c), m)
    f = smooth(watch.y, gains(age))
    shared = (1 - c**2) * float(gains(age).mean()) * SIGMA**2 / 4
    unbiased(look(watch, f)["error_to_other_copy"], error(m, f) + SIGMA**2 / 4 * (1 + c**2 * 4) - 2 * shared)


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("noise", [GaussianNoise(sigma=SIGMA), UniformNoise()], ids=["gaussian", "uniform"])
def test_held_out_pixels_are_unbiased_whatever_the_noise(age, noise):
    m = same_picture(MANY, noise=noise)
    watch = watch_of(HeldOutPixels(fraction=0.2), m)
    f = smooth(watch.y * watch.weight, gains(age))
    held = (1 - watch.weight).expand_as(f)
    assert 0.15 < float(held.mean()) < 0.25
    its_error = (held * (f - m.truth).square() / 4).flatten(1).sum(1) / held.flatten(1).sum(1)
    unbiased(look(watch, f)["held_out_error"], its_error + SIGMA**2 / 4)


@pytest.mark.parametrize("age", AGES)
def test_the_noisier_pair_is_biased_by_what_is_memorised(age):
    m = same_picture(MANY)
    watch = watch_of(NoisierPair(level=0.5), m)
    f = smooth(watch.y, gains(age))
    values = look(watch, f)
    bias = -2 * SIGMA**2 / 4 * float(gains(age).mean())
    constant = SIGMA**2 / 4 * 1.25
    unbiased(values["error_to_other_copy"], error(m, f) + constant + bias)
    unbiased(values["leak"], float(gains(age).mean()))
    if age == AGES[-1]:
        with pytest.raises(AssertionError):
            unbiased(values["error_to_other_copy"], error(m, f) + constant, errors=10)
    corrected = watch_of(NoisierPair(level=0.5, corrected=True), m)
    unbiased(look(corrected, f)["error_to_other_copy"], error(m, f) + constant)


def test_where_the_pair_stops_and_where_it_should():
    """In the mean over noises: the corrected one and the risk are least where the error is, up to a factor of two; the
    uncorrected one much later.
    """
    m = same_picture(200, sigma_255=40)
    watches = {"pair": NoisierPair(), "corrected": NoisierPair(corrected=True), "risk": MultiNoiseEarlyStopping()}
    ages = [2.0**k for k in range(13)]
    found = {}
    for name, criterion in watches.items():
        watch = watch_of(criterion, m)
        iterates = [smooth(watch.y, gains(a)) for a in ages]
        signal = [float(look(watch, f)[watch.signal].mean()) for f in iterates]
        errors = [float(error(m, f).mean()) for f in iterates]
        found[name] = (min(range(13), key=signal.__getitem__), min(range(13), key=errors.__getitem__))
    assert all(abs(found[name][0] - found[name][1]) <= 1 for name in ("risk", "corrected"))
    assert found["pair"][0] >= found["pair"][1] + 2


def test_residual_energy():
    """mean((f - y)^2) = MSE + sigma^2 - 2 sigma^2 d in the mean: what Morozov's threshold is made of."""
    m = same_picture(MANY)
    for age in AGES:
        f = smooth(m.y, gains(age))
        unbiased(images_mean((f - m.y).square() / 4), error(m, f) + SIGMA**2 / 4 * (1 - 2 * float(gains(age).mean())))
