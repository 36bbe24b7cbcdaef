"""The denoising U-Net: counts, any size, what a pixel sees, the level, precision, refusals."""

import pytest
import torch

from common.build import build
from common.errors import UserError
from networks.denoising_unet import DenoisingUNet

TINY = {"in_channels": 3, "channels": 4, "multipliers": [1, 2], "blocks": 1, "time_channels": 4}


def awake(**options) -> DenoisingUNet:
    """A network whose silenced layers speak."""
    torch.manual_seed(0)
    network = DenoisingUNet(**TINY | options).eval()
    with torch.no_grad():
        for p in network.parameters():
            if not p.any():
                p.normal_(std=0.5 / max(1, p[0].numel()) ** 0.5)
    return network


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_parameters_of_the_shipped_size_fit_in_5_mb_of_half_precision():
    count = sum(p.numel() for p in DenoisingUNet(in_channels=3, channels=32, multipliers=[2, 3, 4]).parameters())
    assert count == 1_964_204 and 2 * count < 5e6


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (5, 3), (29, 31), (1, 9)])
@pytest.mark.parametrize(
    "options", [{}, {"in_channels": 1}, {"patch": 1, "multipliers": [1, 1, 2]}, {"multipliers": [2]}]
)
def test_any_size(size, options):
    network = awake(**options)
    x = images(2, network.in_channels, *size)
    out = network(x, torch.tensor([-400.0, 130.0]))
    assert out.shape == x.shape and torch.isfinite(out).all()


def test_padding_inside_is_replication_to_a_multiple():
    network, time = awake(), torch.tensor([3.0, -300.0])
    x = images(2, 3, 7, 10)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 1), mode="replicate")
    torch.testing.assert_close(network(x, time), network(padded, time)[..., :7, :10], rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"multipliers": [1, 1, 2]}, {"patch": 1}, {"blocks": 2}])
def test_a_pixel_sees_its_reach_and_no_more(options):
    network = awake(**options).double()
    side = 2 * (network.reach + network.multiple) // network.multiple * network.multiple
    x, time = images(1, 3, side, side).double().requires_grad_(), torch.tensor([-100.0])
    place = side // 2 + 1
    network(x, time)[0, :, place, place].sum().backward()
    seen = x.grad[0].abs().sum(0).nonzero()
    assert int((seen - place).abs().max()) <= network.reach
    assert int((seen - place).abs().max()) > network.reach // 4, "the bound is not an empty one"


def test_a_tile_with_its_surroundings_is_the_whole():
    network, time = awake().double(), torch.tensor([-100.0])
    side, edge = 128, -(-network.reach // network.multiple) * network.multiple
    x = images(1, 3, side, side).double()
    tile = network(x[..., : 64 + edge, : 64 + edge], time)[..., :64, :64]
    torch.testing.assert_close(tile, network(x, time)[..., :64, :64], rtol=0, atol=1e-12)


def test_images_of_a_batch_do_not_see_each_other_and_each_has_its_level():
    network, time = awake().double(), torch.tensor([1.0, -400.0, 100.0])
    x = images(3, 3, 9, 9).double()
    out = network(x, time)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1], time[i : i + 1])[0], out[i], rtol=0, atol=1e-12)
    assert not torch.allclose(network(x, time + 50), out)


def test_output_is_zero_at_the_start_and_every_parameter_learns():
    network = DenoisingUNet(**TINY)
    assert not network(images(2, 3, 12, 12), torch.tensor([1.0, 2.0])).any()
    network = awake()
    network(images(2, 3, 12, 12), torch.tensor([1.0, -200.0])).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_little_noise_on_a_bright_area_survives_bfloat16():
    network, time = awake(), torch.tensor([-460.0])
    x = 1.5 + 0.01 * images(1, 3, 32, 32)
    exact = network(x, time)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x, time)
    assert rounded.dtype == torch.float32
    difference, noise = exact - exact.mean((2, 3), keepdim=True), rounded - rounded.mean((2, 3), keepdim=True)
    inner = (..., slice(8, -8), slice(8, -8))
    correlation = torch.corrcoef(torch.stack([difference[inner].flatten(), noise[inner].flatten()]))[0, 1]
    assert correlation > 0.9


def test_memory_formats_agree_and_the_description_builds_it_again():
    network, x, time = awake(), images(2, 3, 16, 16), torch.tensor([5.0, -90.0])
    other = build(network.spec, torch.nn.Module, where="here", project_only=True)
    other.load_state_dict(network.state_dict())
    other.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        other(x.contiguous(memory_format=torch.channels_last), time), network(x, time), rtol=0, atol=1e-5
    )


def test_refusals():
    for options, name in (
        ({"blocks": 0}, "blocks"),
        ({"patch": 0}, "patch"),
        ({"multipliers": []}, "multipliers"),
        ({"time_channels": 5}, "time_channels"),
    ):
        with pytest.raises(UserError, match=name):
            DenoisingUNet(**TINY | options)
    network = DenoisingUNet(**TINY)
    for wrong in (
        (images(1, 1, 8, 8), torch.zeros(1)),
        (images(2, 3, 8, 8), torch.zeros(1)),
        (images(1, 3, 8, 8), torch.zeros(1), torch.zeros(1)),
    ):
        with pytest.raises(ValueError, match=r"expected|labels"):
            network(*wrong)
