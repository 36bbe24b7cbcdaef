"""All untrained architectures: parameter counts, independence of the copies in one pass, range, and parity with plain
networks of torch.
"""

from itertools import pairwise

import jsonargparse
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.untrained.base import Architecture, UntrainedNetwork
from networks.untrained.deep_decoder import DeepDecoderArchitecture
from networks.untrained.layers import Conv, Norm, part
from networks.untrained.skip import PRESETS, SkipArchitecture
from networks.untrained.unet import UNetArchitecture

SMALL = {
    "skip": SkipArchitecture(preset="small", channels=[4, 6], skip=[2, 3], inputs=3),
    "skip_wide_up": SkipArchitecture(
        channels=[4, 6], channels_up=[5, 3], skip=[0, 2], inputs=2, upsampling="nearest", padding="zero"
    ),
    "skip_pooled": SkipArchitecture(
        preset="sparse_pixels", channels=[4, 6], skip=[2, 0], inputs=2, downsampling="average", mix_after_up=False
    ),
    "skip_max": SkipArchitecture(
        preset="large_hole_inpainting", channels=[4, 6], skip=[2, 0], inputs=2, downsampling="max"
    ),
    "deep_decoder": DeepDecoderArchitecture(channels=6, scales=2),
    "deep_decoder_inputs": DeepDecoderArchitecture(channels=6, scales=3, inputs=4),
    "unet": UNetArchitecture(channels=[4, 6, 5], inputs=2),
    "unet_bilinear": UNetArchitecture(channels=[4, 6], inputs=3, upsampling="bilinear", padding="reflection"),
    "unet_nearest": UNetArchitecture(channels=[4, 6], inputs=3, upsampling="nearest"),
}
each = pytest.mark.parametrize("recipe", SMALL.values(), ids=SMALL)


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(s) for s in seeds]


def _input(recipe: Architecture, copies: int, height: int, width: int, seed: int = 0) -> Tensor:
    return (
        torch.rand(
            copies, recipe.inputs, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        * 0.1
    )


def _built(recipe: Architecture, seeds: list[int], outputs: int = 3) -> UntrainedNetwork:
    network = recipe.build(outputs=outputs, copies=len(seeds)).double()
    network.reset(_generators(*seeds))
    return network


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("denoising", 2_217_831),
        ("text_inpainting", 3_002_627),
        ("region_inpainting", 2_157_955),
        ("jpeg", 572_827),
        ("large_hole_inpainting", 2_996_467),
        ("sparse_pixels", 1_027_379),
    ],
)
def test_published_networks_have_as_many_parameters(preset: str, count: int):
    """Counted on the released networks."""
    assert _count(SkipArchitecture(preset=preset).build(outputs=3)) == count


def test_parameters_of_the_others():
    """Heckel and Hand: d k^2 + 2 d k + 3 k with d = 6 layers, 100 224 for k = 128, 25 536 for k = 64. U-Net: 9 a b + b
    for a pair's convolutions.
    """
    assert _count(DeepDecoderArchitecture().build(outputs=3)) == 100_224
    assert _count(DeepDecoderArchitecture(channels=64).build(outputs=3)) == 25_536
    widths = [8, 16, 32, 64, 128, 128]
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in zip([1, *widths], widths, strict=False))
    up = sum(16 * b * a + a + 18 * a * a + a + 9 * a * a + a for a, b in pairwise(widths))
    assert _count(UNetArchitecture().build(outputs=3)) == down + up + 3 * 8 + 3


@each
def test_copies_are_independent(recipe: Architecture):
    """Outputs and gradients of three networks in one pass are those of each alone, in float64."""
    seeds, height, width = [5, 9, 2], 2 * recipe.least, recipe.least
    together = _built(recipe, seeds)
    z = _input(recipe, 3, height, width)
    target = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = together(z)
    (out - target).square().flatten(1).mean(1).sum().backward()
    for k, seed in enumerate(seeds):
        alone = _built(recipe, [seed])
        single = alone(z[k : k + 1])
        torch.testing.assert_close(single[0], out[k], rtol=0, atol=1e-12)
        (single - target[k : k + 1]).square().mean().backward()
        for mine, all_of_them in zip(alone.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(mine.detach(), part(all_of_them.detach(), k, 3), rtol=0, atol=0)
            torch.testing.assert_close(mine.grad, part(all_of_them.grad, k, 3), rtol=1e-9, atol=1e-12)


@each
def test_a_broken_neighbour_does_no_harm(recipe: Architecture):
    together = _built(recipe, [1, 2, 3])
    z = _input(recipe, 3, recipe.least, recipe.least)
    before = together(z)
    with torch.no_grad():
        for p in together.parameters():
            part(p, 1, 3).fill_(float("nan"))
    after = together(z)
    assert torch.equal(after[[0, 2]], before[[0, 2]]) and torch.isnan(after[1]).all()
    after[[0, 2]].square().sum().backward()
    assert all(torch.isfinite(part(p.grad, k, 3)).all() for p in together.parameters() for k in (0, 2))


@each
def test_output_is_an_image_in_0_to_1_of_the_input_size(recipe: Architecture):
    for outputs, (height, width) in (
        (1, (recipe.least, recipe.least)),
        (3, (recipe.least, recipe.least + recipe.multiple)),
    ):
        network = _built(recipe, [4, 5], outputs)
        with torch.no_grad():
            out = network(_input(recipe, 2, height, width))
        assert out.shape == (2, outputs, height, width)
        assert out.min() > 0 and out.max() < 1 and out.std() > 1e-4
    assert recipe.least % recipe.multiple == 0 and recipe.least >= recipe.multiple


@each
def test_weights_belong_to_their_generator_and_have_torchs_spread(recipe: Architecture):
    network, again = _built(recipe, [4, 5]), _built(recipe, [4, 5])
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    swapped = _built(recipe, [5, 4])
    for a, b in zip(network.parameters(), swapped.parameters(), strict=True):
        assert torch.equal(part(a, 0, 2), part(b, 1, 2))
    state = torch.get_rng_state()
    again.reset(_generators(4, 5))
    assert torch.equal(state, torch.get_rng_state())
    for module in network.modules():
        if isinstance(module, Conv):
            bound = module.weight[0].numel() ** -0.5
            weight = module.weight.detach()
            assert weight.abs().max() <= bound and float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.35)
        elif isinstance(module, Norm):
            assert (module.weight == 1).all() and (module.bias == 0).all()


@each
def test_copies_can_be_set(recipe: Architecture):
    network, other = _built(recipe, [4, 5, 6]), _built(recipe, [7, 8, 9])
    network.copy_from([p.detach().clone() for p in other.parameters()], [0, 2])
    expected = _built(recipe, [7, 5, 9])
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected.parameters(), strict=True))


@each
def test_every_parameter_and_the_input_matter(recipe: Architecture):
    network = _built(recipe, [3])
    z = _input(recipe, 1, recipe.least, recipe.least).requires_grad_()
    (
        network(z) * torch.rand(1, 3, recipe.least, recipe.least, generator=torch.Generator().manual_seed(2)).double()
    ).sum().backward()
    assert z.grad.abs().sum() > 0
    for name, p in network.named_parameters():
        # a bias before a norm has no effect
        assert p.grad is not None and (p.grad.abs().sum() > 1e-12 or "bias" in name), name


@each
def test_under_autocast(recipe: Architecture):
    network = recipe.build(outputs=1, copies=2)
    network.reset(_generators(1, 2))
    z = _input(recipe, 2, recipe.least, recipe.least).float()
    exact = network(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(z)
    assert (out.float() - exact).abs().mean() < 0.05
    out.float().sum().backward()


@each
def test_described_and_built_again(recipe: Architecture):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--architecture", type=Architecture)
    built = parser.instantiate(parser.parse_object({"architecture": recipe.spec})).architecture
    assert (
        type(built) is type(recipe)
        and {k: built.spec["init_args"][k] for k in recipe.spec["init_args"]} == recipe.spec["init_args"]
    )
    assert _count(built.build(outputs=3)) == _count(recipe.build(outputs=3))


@pytest.mark.parametrize(
    ("cls", "options", "word"),
    [
        (DeepDecoderArchitecture, {"scales": 0}, "scales"),
        (DeepDecoderArchitecture, {"inputs": 0}, "inputs"),
        (UNetArchitecture, {"channels": []}, "scale"),
        (UNetArchitecture, {"channels": [4, 0]}, "channels"),
        (UNetArchitecture, {"inputs": 0}, "inputs"),
        (UNetArchitecture, {"upsampling": "bicubic"}, "upsampling"),
        (UNetArchitecture, {"padding": "circular"}, "padding"),
        (SkipArchitecture, {"channels": [4, 4], "skip": [4]}, "per scale"),
        (SkipArchitecture, {"preset": "nose"}, "preset"),
        (SkipArchitecture, {"channels": [4, 0]}, "channels"),
    ],
)
def test_refuses(cls: type, options: dict, word: str):
    with pytest.raises(ValueError, match=word):
        cls(**options)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_work_at_the_least_size(preset: str):
    recipe = SkipArchitecture(preset=preset)
    if recipe.least > 64:
        recipe = SkipArchitecture(
            preset=preset, channels=[8] * len(recipe.channels), skip=[min(s, 4) for s in recipe.skip]
        )
    network = recipe.build(outputs=1)
    network.reset(_generators(0))
    with torch.no_grad():
        assert torch.isfinite(network(_input(recipe, 1, recipe.least, recipe.least).float())).all()


# The same networks once more, from torch's own layers.


def _plain(network: UntrainedNetwork) -> list[nn.Module]:
    """Torch's layer for each of ours, in the order of the modules."""
    found = []
    for module in network.modules():
        if isinstance(module, Conv):
            inputs, outputs, size = module.weight.shape[1], len(module.weight), module.weight.shape[-1]
            if type(module) is not Conv:
                layer = nn.ConvTranspose2d(outputs, inputs, 4, stride=2, padding=1)
            else:
                mode = "zeros" if module.zeros or not module.pad else "reflect"
                layer = nn.Conv2d(
                    inputs,
                    outputs,
                    size,
                    stride=module.stride,
                    padding=size // 2,
                    padding_mode=mode,
                    bias=module.bias is not None,
                )
        elif isinstance(module, Norm):
            layer = nn.BatchNorm2d(len(module.weight))
        else:
            continue
        layer.load_state_dict({k: v.detach() for k, v in module.state_dict().items()}, strict=False)
        found.append(layer.double())
    return found


def test_skip_is_the_published_hourglass():
    """Two scales by hand: skip, down, down, [deeper], upsample, concat, norm, up, mix; the concatenation begins with
    the skip.
    """
    recipe = SMALL["skip"]
    network = _built(recipe, [3])
    names = [n for n, m in network.named_modules() if isinstance(m, (Conv, Norm))]
    layers = dict(zip(names, _plain(network), strict=True))

    def block(x: Tensor, name: str) -> Tensor:
        return F.leaky_relu(layers[f"{name}.1"](layers[f"{name}.0"](x)), 0.2)

    def strided(x: Tensor, name: str) -> Tensor:  # its second module is where pooling would be
        return F.leaky_relu(layers[f"{name}.2"](layers[f"{name}.0"](x)), 0.2)

    def scale(x: Tensor, name: str, deepest: bool) -> Tensor:
        below = block(strided(x, f"{name}.down.0"), f"{name}.down.1")
        below = below if deepest else scale(below, f"{name}.deeper", True)
        below = F.interpolate(below, size=x.shape[2:], mode="bilinear", align_corners=False)
        x = layers[f"{name}.up.0"](torch.cat([block(x, f"{name}.skip"), below], 1))
        return block(block(x, f"{name}.up.1"), f"{name}.up.2")

    z = _input(recipe, 1, 16, 24)
    torch.testing.assert_close(torch.sigmoid(layers["last"](scale(z, "scales", False))), network(z), rtol=0, atol=1e-12)


def test_deep_decoder_is_the_published_one():
    recipe = SMALL["deep_decoder"]
    network = _built(recipe, [3])
    c0, c1, c2, n0, n1, n2, last = _plain(network)
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    reference = nn.Sequential(c0, up, nn.ReLU(), n0, c1, up, nn.ReLU(), n1, c2, nn.ReLU(), n2, last, nn.Sigmoid())
    z = _input(recipe, 1, 16, 24)
    torch.testing.assert_close(reference(z[..., ::4, ::4]), network(z), rtol=0, atol=1e-12)


def test_unet_is_the_published_one():
    recipe = SMALL["unet"]
    network = _built(recipe, [3])
    layers = iter(_plain(network))

    def pair() -> nn.Module:
        a, b = next(layers), next(layers)
        return nn.Sequential(
            a, nn.InstanceNorm2d(a.out_channels), nn.ReLU(), b, nn.InstanceNorm2d(b.out_channels), nn.ReLU()
        )

    down0, down1, down2 = pair(), pair(), pair()
    up0, pair0, up1, pair1, last = next(layers), pair(), next(layers), pair(), next(layers)
    z = _input(recipe, 1, 16, 24)
    e0 = down0(z)
    e1 = down1(F.max_pool2d(e0, 2))
    x = down2(F.max_pool2d(e1, 2))
    x = pair1(torch.cat([up1(x), e1], 1))
    x = pair0(torch.cat([up0(x), e0], 1))
    torch.testing.assert_close(torch.sigmoid(last(x)), network(z), rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each
def test_gpu_agrees(recipe: Architecture):
    network, z = _built(recipe, [1, 2]), _input(recipe, 2, recipe.least, recipe.least)
    expected = network(z)
    torch.testing.assert_close(network.cuda()(z.cuda()).cpu(), expected, rtol=1e-9, atol=1e-9)
