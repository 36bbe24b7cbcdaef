import pytest
import torch
from torch import nn

from diffusion.assemble import assemble
from diffusion.denoiser import DiscreteDenoiser
from diffusion.edm import EDMDenoiser, LogNormal
from diffusion.flow import FlowDenoiser, LogitNormalTimes, UniformTimes
from diffusion.image_conditioning import ConditioningOptions
from diffusion.losses import check_loss
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.ddpm import AncestralDDPM
from diffusion.schedules import Cosine, Linear, ZeroTerminalSNR
from diffusion.weighting.base import Weighting
from diffusion.weighting.simple import Simple
from inference.catalogue import catalogue


class Net(nn.Module):
    def __init__(self, inputs=3, outputs=3):
        super().__init__()
        self.in_channels, self.out_channels = inputs, outputs

    def forward(self, x, time, label=None):
        return x


def make(network=None, schedule=None, prediction="v", **options):
    return assemble(
        network=network or Net(), schedule=schedule or Cosine(), prediction=prediction, data_shape=(3, 4, 4), **options
    )


def test_the_kind_follows_from_the_prediction():
    assert isinstance(make(), DiscreteDenoiser) and not make().learns_variance
    assert make(Net(outputs=6), variance="learned_range").learns_variance
    edm = make(schedule=LogNormal(), prediction="edm", sigma_data=0.6)
    assert isinstance(edm, EDMDenoiser) and edm.sigma_data == 0.6 and edm.prediction == "edm"
    for times in (UniformTimes(), LogitNormalTimes()):
        flow = make(schedule=times, prediction="velocity")
        assert isinstance(flow, FlowDenoiser) and flow.prediction == "velocity" and not flow.learns_variance
    # A network that does not say its channels is taken at its word.
    assert isinstance(
        assemble(network=nn.Identity(), schedule=Cosine(), prediction="x0", data_shape=(1, 2, 2)), DiscreteDenoiser
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prediction": "noise"}, "one of epsilon, x0, v, edm, velocity, got 'noise'"),
        ({"prediction": "edm"}, "continuum of levels, not on Cosine.*LogNormal"),
        ({"schedule": LogNormal()}, "'v' needs a schedule.*got LogNormal.*prediction to edm"),
        ({"schedule": LogNormal(), "prediction": "edm", "variance": "learned_range"}, "needs a discrete schedule"),
        ({"prediction": "velocity"}, "'velocity' is trained on a continuum.*not on Cosine.*UniformTimes"),
        ({"schedule": LogNormal(), "prediction": "velocity"}, "not on LogNormal: .*diffusion.flow.UniformTimes"),
        ({"schedule": UniformTimes(), "prediction": "edm"}, "not on UniformTimes: .*diffusion.edm.LogNormal"),
        ({"schedule": UniformTimes()}, "'v' needs a schedule.*got UniformTimes.*prediction to velocity"),
        (
            {"schedule": UniformTimes(), "prediction": "velocity", "variance": "learned_range"},
            "'learned_range' needs a discrete schedule, and prediction 'velocity' has none",
        ),
        (
            {"schedule": UniformTimes(), "prediction": "velocity", "conditioning": ConditioningOptions()},
            "conditioning image needs a discrete schedule.*'velocity'",
        ),
        ({"variance": "learned_range"}, "needs 6 output channels, and the network has 3: .*to 6"),
        ({"network": Net(outputs=6)}, "6 output channels.*out_channels to 3, or variance to learned_range"),
        ({"network": Net(outputs=1)}, "1 output channels.*out_channels to 3$"),
        ({"network": Net(inputs=1)}, "1 input channels.*in_channels to 3"),
        ({"variance": "learned"}, "'fixed' or 'learned_range', got 'learned'"),
        (
            {"schedule": ZeroTerminalSNR(schedule=Linear()), "prediction": "epsilon"},
            "'epsilon' says nothing.*'v' or 'x0'",
        ),
    ],
)
def test_contradictions(options, match):
    with pytest.raises(ValueError, match=match) as error:
        make(**options)
    assert "\n" not in str(error.value)


def test_a_loss_that_leaves_a_part_untrained():
    zero = make(schedule=ZeroTerminalSNR(schedule=Linear()))
    good = {"target", "snr_plus_one", "truncated_snr", "edm"}
    found = catalogue("diffusion/weighting", Weighting)
    assert good < set(found)
    for name, cls in found.items():
        if name in good:
            check_loss(zero, cls(), 0.001)
        elif float(cls().on_x0(torch.zeros(1))) == 0:
            with pytest.raises(ValueError, match=f"{cls.__name__} is 0 at the last time"):
                check_loss(zero, cls(), 0.001)
        check_loss(make(), cls(), 0.0)
    learned = make(Net(outputs=6), variance="learned_range")
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="vlb_weight must be positive"):
            check_loss(learned, Simple(), weight)


def test_a_sampler_with_learned_variance_needs_one():
    sampler = AncestralDDPM(variance="learned")
    sampler.check(make(Net(outputs=6), variance="learned_range"))
    for denoiser in (make(), make(schedule=LogNormal(), prediction="edm")):
        with pytest.raises(ValueError, match="did not learn any"):
            sampler.check(denoiser)
        with pytest.raises(ValueError, match="did not learn any"):
            sampler.sample(denoiser, torch.zeros(1, 3, 4, 4), torch.tensor([1.0, 0.0]))
        DDIM().check(denoiser)
