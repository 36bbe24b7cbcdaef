"""The published architectures: parity with deepinv's networks or with the papers' equations under random weights, any
size, levels, how far they look.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.errors import UserError
from networks.denoisers.dncnn import DnCNN
from networks.denoisers.drunet import DRUNet
from networks.denoisers.ffdnet import FFDNet
from networks.denoisers.ircnn import DILATIONS, IRCNN
from networks.denoisers.parts import padded

SMALL = {
    "dncnn": lambda channels: DnCNN(channels=channels, width=6, layers=4),
    "ircnn": lambda channels: IRCNN(channels=channels, width=5, levels=3),
    "ffdnet": lambda channels: FFDNet(channels=channels, width=8, layers=3),
    "drunet": lambda channels: DRUNet(channels=channels, widths=[4, 6, 8, 10], blocks=1),
}


def randomised(network, double=True):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape) * (1.4 * p[0].numel() ** -0.5 if p.ndim > 1 else 0.1))
    return network.eval().double() if double else network.eval()


def picture(channels, height, width, count=2):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(params=SMALL)
def name(request) -> str:
    return request.param


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_drunet_is_that_of_deepinv(channels):
    deepinv = pytest.importorskip("deepinv")
    theirs = deepinv.models.DRUNet(channels, channels, nc=(4, 6, 8, 10), nb=2, pretrained=None)
    theirs = randomised(theirs)
    ours = DRUNet(channels=channels, widths=[4, 6, 8, 10], blocks=2).double()
    ours.load_state_dict(theirs.state_dict())
    x, level = picture(channels, 40, 48), torch.tensor([0.1, 0.03], dtype=torch.float64)
    expected = theirs(x, level)
    assert float(expected.std()) > 0.05  # random weights, and a picture all the same
    torch.testing.assert_close(ours(x, level), expected, atol=1e-10, rtol=0)
    grid = picture(1, 40, 48) / 5
    torch.testing.assert_close(ours(x, grid), theirs(x, grid), atol=1e-10, rtol=0)
    torch.testing.assert_close(
        ours.float()(x.float(), level.float()).double(), expected, atol=1e-5 * float(expected.abs().max()), rtol=0
    )


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_ffdnet_is_that_of_deepinv(channels):
    """Theirs folds the level into four equal channels: their weights add up to those of our one."""
    deepinv = pytest.importorskip("deepinv")
    theirs = randomised(deepinv.models.FFDNet(4, 8, channels, pretrained=None))
    weights = [p.clone() for p in theirs.parameters()]
    weights[0] = torch.cat([weights[0][:, : 4 * channels], weights[0][:, 4 * channels :].sum(1, keepdim=True)], 1)
    ours = FFDNet(channels=channels, width=8, layers=4).double()
    ours.load_state_dict(dict(zip(ours.state_dict(), weights, strict=True)))
    x, level = picture(channels, 16, 20), torch.tensor([0.1, 0.03], dtype=torch.float64)
    expected = theirs(x, level)
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(ours(x, level), expected, atol=1e-10, rtol=0)


@torch.no_grad()
def test_ircnn_is_its_equation():
    """Independently: dilation d as a kernel with d - 1 zeros between its entries."""
    network = randomised(IRCNN(channels=3, width=5, levels=3))
    x, level = picture(3, 11, 9, count=3), torch.tensor([5.0, 0.4, 40.0], dtype=torch.float64) / 255
    for k, (image, chosen) in enumerate(zip(x, (2, 0, 2), strict=True)):
        h = image[None]
        for number, dilation in enumerate(DILATIONS):
            conv = network.models[chosen][2 * number]
            side = 2 * dilation + 1
            kernel = torch.zeros(*conv.weight.shape[:2], side, side, dtype=torch.float64)
            kernel[..., ::dilation, ::dilation] = conv.weight
            h = F.conv2d(h, kernel, conv.bias, padding=dilation)
            h = h.clamp(min=0) if number < len(DILATIONS) - 1 else h
        torch.testing.assert_close(network(x, level)[k], image - h[0], atol=1e-12, rtol=0)


@torch.no_grad()
def test_dncnn_is_its_equation():
    network = randomised(DnCNN(channels=1, width=6, layers=4))
    x = h = picture(1, 9, 7)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for k, conv in enumerate(convolutions):
        h = F.conv2d(h, conv.weight, conv.bias, padding=1)
        h = h.clamp(min=0) if k < 3 else h
    assert len(convolutions) == 4
    torch.testing.assert_close(network(x, torch.tensor([0.1, 0.2])), x - h, atol=1e-12, rtol=0)


def test_networks_of_an_ircnn_are_chosen_by_level():
    """A level in float32 that is a network's own stays its own; others are rounded up, beyond the last to the last."""
    with torch.device("meta"):
        network = IRCNN()
    own = torch.arange(2, 51, 2, dtype=torch.float32)
    assert network.network_of(own / 255).tolist() == list(range(25))
    assert network.network_of(own / 127.5 / 2).tolist() == list(range(25))
    assert network.network_of(torch.tensor([0.1, 2.1, 3.9, 49.0, 60.0]) / 255).tolist() == [0, 1, 1, 24, 24]


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_any_size_and_one_by_one(name, channels):
    """A picture smaller than the stride too; odd sides are as if their last row and column were repeated."""
    network = randomised(SMALL[name](channels))
    level = torch.tensor([0.1, 0.02], dtype=torch.float64)
    for height, width in ((1, 1), (3, 5), (8, 17)):
        x = picture(channels, height, width)
        found = network(x, level)
        assert found.shape == x.shape and bool(torch.isfinite(found).all())
        multiple = getattr(network, "multiple", 1)
        if multiple > 1:
            whole = network(padded(x, multiple), level)[..., :height, :width]
            torch.testing.assert_close(found, whole, atol=1e-12, rtol=0)


@torch.no_grad()
def test_an_image_is_the_same_alone_and_a_constant_map_is_its_level(name):
    network = randomised(SMALL[name](3))
    x, level = picture(3, 9, 12, count=3), torch.tensor([0.1, 0.02, 0.006], dtype=torch.float64)
    whole = network(x, level)
    torch.testing.assert_close(network(x[1:2], level[1:2]), whole[1:2], atol=1e-12, rtol=0)
    if getattr(network, "takes_maps", False):
        grid = level.view(-1, 1, 1, 1).expand(3, 1, 9, 12)
        torch.testing.assert_close(network(x, grid), whole, atol=1e-12, rtol=0)
    told = network(x, 2 * level)
    assert torch.equal(told, whole) != network.takes_level


def test_four_levels_of_a_fold_are_their_root_mean_square():
    network = randomised(FFDNet(channels=1, width=8, layers=2))
    x, grid = picture(1, 2, 2, count=1), torch.tensor([[[[0.1, 0.3], [0.2, 0.0]]]], dtype=torch.float64)
    same = grid.square().mean().sqrt().view(1)
    torch.testing.assert_close(network(x, grid), network(x, same), atol=1e-12, rtol=0)


def test_nothing_beyond_its_reach_is_seen(name):
    """The gradient of an output pixel is 0 beyond `reach` from its cell, and not 0 at that distance for one of them."""
    network = randomised(SMALL[name](1))
    # Without ReLU nothing that is seen can hide.
    for module in list(network.modules()):
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, key, nn.Identity())
    multiple, far = getattr(network, "multiple", 1), []
    for at in (64, 64 + multiple - 1):
        x = picture(1, 136, 8, count=1).requires_grad_()
        network(x, torch.tensor([0.1], dtype=torch.float64))[0, 0, at, 4].backward()
        assert x.grad is not None
        seen = x.grad[0, 0].abs().sum(1).nonzero()[:, 0]
        far += [64 - int(seen.min()), int(seen.max()) - (64 + multiple - 1)]
    assert max(far) == network.reach


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DnCNN(layers=1), "layers must be at least"),
        (lambda: FFDNet(width=0), "width must be at least 1"),
        (lambda: IRCNN(levels=0), "levels must be at least 1"),
        (lambda: DRUNet(widths=[8, 8, 8]), "four numbers"),
        (lambda: DRUNet(blocks=0), "blocks must be at least 1"),
    ],
)
def test_impossible_numbers_are_refused(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_published_sizes():
    """Parameters of the published files."""
    with torch.device("meta"):
        networks = {"dncnn": DnCNN(), "blind": DnCNN(layers=20), "ffdnet": FFDNet(), "drunet": DRUNet()}
    count = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    assert count == {"dncnn": 555_137, "blind": 665_921, "ffdnet": 852_108, "drunet": 32_640_960}
