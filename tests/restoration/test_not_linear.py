"""Operators that are not linear: methods that need A and its gradient alone restore from all of them, others refuse."""

import pytest
import torch
from helpers import tiny_denoiser

from common.random_streams import RandomStreams
from degradations.base import Degradation
from degradations.box_mask import BoxMask
from degradations.composition import Composition
from degradations.compressed_sensing import CompressedSensing
from degradations.high_dynamic_range import HighDynamicRange
from degradations.jpeg import JPEG
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.phase_retrieval import PhaseRetrieval
from degradations.quantisation import Quantisation, Quantised
from degradations.steps import with_gradient_of
from networks.untrained.skip import SkipArchitecture
from restoration.base import Unsupported
from restoration.ddnm import DDNM
from restoration.ddrm import DDRM
from restoration.degraded import Degraded
from restoration.diffpir import DiffPIR
from restoration.dip import DIP
from restoration.dps import DPS
from restoration.first_guess import first_guess
from restoration.pigdm import PiGDM
from restoration.plug_and_play import PlugAndPlay
from restoration.pnp_flow import PnPFlow
from restoration.pseudo_inverse import PseudoInverse
from restoration.red_diff import REDDiff
from restoration.repaint import RePaint
from restoration.sdedit import SDEdit
from restoration.stopping.fixed import FixedIterations
from restoration.stopping.noise_level import check_sigma, estimate_sigma
from restoration.total_variation import TotalVariation

SHAPE = (3, 8, 8)
TASKS: dict[str, Degradation] = {
    "phase retrieval": PhaseRetrieval(),
    "high dynamic range": HighDynamicRange(),
    "JPEG": JPEG(quality=20),
    "quantisation": Quantisation(levels=4),
    "JPEG with a hole": Composition(parts=[JPEG(quality=20), BoxMask(size=3)]),
}
SKIP = SkipArchitecture(preset="small", channels=[4], inputs=2)
TAKE = {
    "dps": lambda: DPS(prior=tiny_denoiser(SHAPE), steps=4),
    "dps with a scale": lambda: DPS(prior=tiny_denoiser(SHAPE), steps=4, relative_scale=1.0),
    "red_diff": lambda: REDDiff(prior=tiny_denoiser(SHAPE), steps=4),
    "pnp_flow": lambda: PnPFlow(prior=tiny_denoiser(SHAPE), steps=4, draws=1),
    "dip": lambda: DIP(architecture=SKIP, iterations=5, stopping=FixedIterations(iterations=5)),
}
REFUSE = {
    "sdedit": lambda: SDEdit(prior=tiny_denoiser(SHAPE)),
    "ddrm": lambda: DDRM(prior=tiny_denoiser(SHAPE)),
    "ddnm": lambda: DDNM(prior=tiny_denoiser(SHAPE)),
    "pigdm": lambda: PiGDM(prior=tiny_denoiser(SHAPE)),
    "diffpir": lambda: DiffPIR(prior=tiny_denoiser(SHAPE)),
    "plug_and_play": lambda: PlugAndPlay(prior=tiny_denoiser(SHAPE)),
    "pseudo_inverse": PseudoInverse,
    "total_variation": TotalVariation,
}


def _measured(degradation: Degradation) -> Measurement:
    random = RandomStreams(0)
    x = random.uniform("images", 0, 0, (2, *SHAPE)) * 1.8 - 0.9
    return measure(x, degradation=degradation, noise=GaussianNoise(sigma=0.05), index=[0, 1], random=random)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", TAKE)
def test_they_are_restored(task: str, method: str):
    m, made = _measured(TASKS[task]), TAKE[method]()
    found = made.restore(m, num_samples=2, random=RandomStreams(1)).samples
    assert found.shape[0] == 2 and found.shape[2:] == SHAPE and torch.isfinite(found).all()
    assert float(found.std()) > 1e-3


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", REFUSE)
def test_they_are_refused_with_the_reason(task: str, method: str):
    m, made = _measured(TASKS[task]), REFUSE[method]()
    with pytest.raises(Unsupported, match=r"is not linear|the singular value decomposition"):
        made.check(m.operator, m.noise)


def test_a_mask_is_asked_of_repaint():
    noiseless = GaussianNoise(sigma=0.0)
    for degradation in (JPEG(), CompressedSensing()):
        operator = degradation.operator_for(SHAPE, [0], RandomStreams(0))
        with pytest.raises(Unsupported, match=r"a mask, and .* is none"):
            RePaint(prior=tiny_denoiser(SHAPE)).check(operator, noiseless)


class _Blind(Quantised):
    """Rounding with the same gradient, that shows its steps where it is asked for what stands for A."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        smooth = x.clamp(-1, 1)
        return with_gradient_of(((smooth + 1) * 3.5 + 0.5).floor() / 3.5 - 1, smooth)

    def smooth(self, x: torch.Tensor) -> torch.Tensor:
        return self(x)


def test_dps_weighs_a_move_by_what_it_does_without_steps():
    """A move that crosses no level changes nothing of A, and would be taken several times too far."""
    m = _measured(Quantisation(levels=8))
    residual = []
    for operator in (m.operator, _Blind(8, SHAPE)):
        other = Measurement(y=m.y, operator=operator, noise=m.noise, index=m.index)
        found = DPS(prior=tiny_denoiser(SHAPE), steps=5).restore(other, random=RandomStreams(1)).samples
        residual.append(float((operator(found[:, 0]) - m.y).square().mean().sqrt()))
    assert residual[0] < 0.7 * residual[1]


@pytest.mark.parametrize("degradation", [CompressedSensing(ratio=0.5), PhaseRetrieval()])
def test_what_is_no_picture_is_not_taken_for_one(degradation: Degradation):
    """It is no restoration, its level of noise is not read off it, and nothing begins with it."""
    operator = degradation.operator_for((1, 16, 16), [0], RandomStreams(0))
    none, x = GaussianNoise(sigma=0.0), RandomStreams(0).uniform("images", 0, 0, (1, 1, 16, 16))
    with pytest.raises(Unsupported, match=r"that of .* is none"):
        Degraded().check(operator, none)
    with pytest.raises(Unsupported, match="cannot be estimated"):
        check_sigma(operator, none, None)
    m = Measurement(y=operator(x), operator=operator, noise=none, index=(0,))
    assert estimate_sigma(m).tolist() == [0.0]
    if operator.linear:
        torch.testing.assert_close(first_guess(operator, m.y), operator.pseudo_inverse(m.y))
    holes = Composition(parts=[BoxMask(size=3), degradation]).operator_for((1, 16, 16), [0], RandomStreams(0))
    assert not holes.shows_image
