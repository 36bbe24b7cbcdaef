"""Denoisers in KAIR's layout: which network a file is, its levels, batch normalisation folded, refusals; and that what
is read is what was written.
"""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from checkpoints.files import write_safetensors
from checkpoints.load import describes_cold_restorer, load_prior
from common.errors import UserError
from diffusion.denoiser import NetworkDenoiser
from diffusion.published_denoiser import PublishedDenoiser
from networks.denoisers.dncnn import DnCNN
from networks.denoisers.drunet import DRUNet
from networks.denoisers.ffdnet import FFDNet
from networks.denoisers.ircnn import IRCNN

#: (network of one channel count, name of the file, levels of 255).
PUBLISHED = {
    "ffdnet": (lambda c: FFDNet(channels=c, width=8, layers=3), "ffdnet.pth", (0, 75)),
    "dncnn_25": (lambda c: DnCNN(channels=c, width=6, layers=3), "dncnn_25.pth", (25, 25)),
    "dncnn_blind": (lambda c: DnCNN(channels=c, width=4, layers=20), "dncnn_gray_blind.pth", (0, 55)),
    "ircnn": (lambda c: IRCNN(channels=c, width=4), "ircnn_gray.pth", (0, 50)),
    "drunet": (lambda c: DRUNet(channels=c, widths=[4, 6, 8, 10], blocks=2), "drunet.pth", (0, 50)),
}


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape) * (p[0].numel() ** -0.5 if p.ndim > 1 else 0.1))
    return network.eval()


def as_kair(network: nn.Module) -> dict:
    """The file that KAIR would have written: an IRCNN as 25 dictionaries by number, the others as they are."""
    state = network.state_dict()
    if not isinstance(network, IRCNN):
        return state
    found: dict[str, dict] = {}
    for name, value in state.items():
        _, number, rest = name.split(".", 2)
        found.setdefault(number, {})[f"model.{rest}"] = value
    return found


def saved(folder: Path, content: object, name: str) -> Path:
    torch.save(content, folder / name)
    return folder / name


def answer(prior: NetworkDenoiser, sigma_255: float) -> torch.Tensor:
    x = torch.rand(2, prior.data_shape[0], 9, 14, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return prior.predict(x, torch.full((2,), sigma_255 / 127.5)).x0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_says_which_network_it_is(name, channels, tmp_path):
    build, file, (low, high) = PUBLISHED[name]
    network = randomised(build(channels))
    path = saved(tmp_path, as_kair(network), file)
    loaded = load_prior(path)
    prior = loaded.denoiser
    assert isinstance(prior, PublishedDenoiser) and type(prior.network) is type(network)
    assert prior.data_shape[0] == channels and prior.any_size
    assert (prior.levels.from_255, prior.levels.to_255) == (low, high)
    assert prior.blind == name.startswith("dncnn") and not describes_cold_restorer(path)
    x = torch.rand(2, channels, 9, 14, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        expected = 2 * network((x + 1) / 2, torch.full((2,), 25 / 255)) - 1
    torch.testing.assert_close(answer(prior, 25), expected)
    # as one file of ours, which describes itself
    again = tmp_path / "ours.safetensors"
    write_safetensors(again, prior.network, loaded.description, dtype=torch.float32)
    torch.testing.assert_close(answer(load_prior(again).denoiser, 25), expected)


@pytest.mark.parametrize(
    ("file", "layers", "preset", "level"),
    [
        ("dncnn_15.pth", 17, None, 15),
        ("DnCNN-50-mine.pth", 17, None, 50),
        ("weights.pth", 17, "dncnn_25", 25),
        ("weights.pth", 17, "dncnn_blind", None),
        ("weights.pth", 20, None, None),
        ("color_blind.pth", 17, None, None),
        ("dncnn3.pth", 20, None, None),
    ],
)
def test_the_level_of_a_dncnn(file, layers, preset, level, tmp_path):
    path = saved(tmp_path, DnCNN(width=2, layers=layers).state_dict(), file)
    loaded = load_prior(path, preset=preset)
    levels = loaded.denoiser.levels
    assert isinstance(loaded.denoiser, PublishedDenoiser)
    assert (levels.from_255, levels.to_255) == ((0, 55) if level is None else (level, level))
    # what it was taken for is part of what identifies a result
    other = load_prior(path, preset="dncnn_15" if level != 15 else "dncnn_25")
    assert other.fingerprint != loaded.fingerprint


def test_batch_normalisation_becomes_part_of_the_convolutions(tmp_path):
    """KAIR's networks while they are trained: convolution, normalisation, ReLU."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 5, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(5, 5, 3, padding=1), nn.BatchNorm2d(5, eps=1e-4), nn.ReLU()]
    theirs = nn.Sequential(*layers, nn.Conv2d(5, 1, 3, padding=1)).eval()
    for module in theirs:
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.2, 2.0)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()
    assert nn.BatchNorm2d(5).eps != 1e-4
    path = saved(tmp_path, {f"model.{k}": v for k, v in theirs.state_dict().items()}, "dncnn_25.pth")
    prior = load_prior(path).denoiser
    x = torch.rand(2, 1, 9, 14, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(prior.network(x), x - theirs(x), atol=1e-5, rtol=1e-5)


class Runs:
    def __reduce__(self):
        return (print, ("run",))


def changed(network: nn.Module, **changes: object) -> dict:
    return {k: v for k, v in {**as_kair(network), **changes}.items() if v is not None}


FFD, DRU = FFDNet(channels=1, width=4, layers=3), DRUNet(channels=1, widths=[2, 2, 2, 2], blocks=1)
DNCNN = DnCNN(width=2, layers=3)
WRONG = {
    "code": ({"model.0.weight": Runs()}, "nothing of it was run"),
    "values": ({**FFD.state_dict(), "epoch": 7}, "its entry 'epoch' is a int"),
    "other project": ({"conv_first.weight": torch.zeros(2)}, "nor a denoiser in the layout of KAIR"),
    "fdncnn": (changed(DNCNN, **{"model.0.weight": torch.zeros(2, 2, 3, 3)}), "an FDnCNN"),
    "channels": (changed(FFD, **{"model.4.weight": torch.zeros(5, 4, 3, 3)}), "takes 5 channels and gives 5"),
    "kernel": (changed(FFD, **{"model.2.weight": torch.zeros(4, 4, 5, 5)}), r"3x3 convolutions: look at 'model\.2"),
    "bias": (changed(FFD, **{"model.2.bias": None}), r"lacks 'model\.2\.bias'"),
    "more": ({**DRU.state_dict(), "m_extra.weight": torch.zeros(1)}, "unexpected 'm_extra.weight'"),
    "biases": ({**DRU.state_dict(), "m_head.bias": torch.zeros(2)}, "has biases"),
    "scales": (changed(DRU, **{"m_down3.0.res.0.weight": None}), "no DRUNet of four scales"),
    "pooling": (changed(DRU, **{"m_down1.1.weight": torch.zeros(2, 2, 3, 3)}), r"'m_down1\.1\.weight' has shape"),
    "no map": (changed(DRU, **{"m_head.weight": torch.zeros(2, 1, 3, 3)}), "one more than it gives"),
    "not finite": (changed(FFD, **{"model.2.bias": torch.full((4,), torch.nan)}), r"not finite in 'model\.2\.bias'"),
    "numbers": ({"0": DNCNN.state_dict(), "2": DNCNN.state_dict()}, "named 0 to 1"),
    "no ircnn": ({"0": DNCNN.state_dict()}, "not chains of 7 convolutions"),
    "level": (DNCNN.state_dict(), "neither the weights nor the name say which: name it dncnn_25.pth"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_none_of_them_is_refused_by_name(name, tmp_path, capsys):
    content, message = WRONG[name]
    with pytest.raises(UserError, match=message) as caught:
        load_prior(saved(tmp_path, content, "weights.pth"))
    assert "\n" not in str(caught.value) and capsys.readouterr().out == ""


def test_presets_are_for_a_dncnn_alone(tmp_path):
    with pytest.raises(UserError, match=r"'dncnn_25' is for a DnCNN, and .* is a FFDNet"):
        load_prior(saved(tmp_path, FFD.state_dict(), "weights.pth"), preset="dncnn_25")
    with pytest.raises(UserError, match="preset 'ffhq_256' is not for it: take dncnn_15"):
        load_prior(saved(tmp_path, DNCNN.state_dict(), "dncnn.pth"), preset="ffhq_256")


@pytest.mark.parametrize("widths", [[4, 6, 8, 10], [3, 3, 5, 5]])
def test_a_drunet_of_other_widths_is_built_from_its_shapes(widths, tmp_path):
    network = randomised(DRUNet(channels=3, widths=widths, blocks=1))
    prior = load_prior(saved(tmp_path, network.state_dict(), "drunet.pth")).denoiser
    assert prior.network.spec["init_args"] == {"channels": 3, "widths": widths, "blocks": 1}


WEIGHTS = Path(os.environ.get("DATA_DIR", "data")) / "weights"


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="DATA_DIR has no folder weights")
@pytest.mark.parametrize(
    ("file", "sigma_255", "least"), [("ffdnet_gray.pth", 25, 29.9), ("dncnn_gray_blind.pth", 25, 29.8)]
)
def test_published_weights_denoise(file, sigma_255, least):
    """A middle piece of scikit-image's photographer, 20.2 dB before: 30.00 and 29.89 dB with these numbers."""
    from skimage.data import camera

    x0 = torch.from_numpy(camera())[None, None, 128:384, 128:384].float() / 127.5 - 1
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    prior = load_prior(WEIGHTS / file).denoiser
    x = x0 + sigma_255 / 127.5 * noise
    found = prior.predict(x, torch.tensor([sigma_255 / 127.5])).x0.clamp(-1, 1)
    assert float(10 * torch.log10(4 / (found - x0).square().mean())) > least
