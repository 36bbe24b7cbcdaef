"""LPIPS and DISTS: the real loading code on random weights in the real layout, against the libraries' own calls."""

import warnings

import pytest
import torch
import torchmetrics.functional.image.lpips as torchmetrics_lpips
from metric_toys import images, measured, worse
from weight_examples import hub, same_weights, torchvision_file

from metrics.base import Missing
from metrics.dists import DISTS
from metrics.lpips import LPIPS
from metrics.published_networks import ALEXNET, SQUEEZENET, VGG16

NETS = {"squeeze": (SQUEEZENET, "squeezenet1_1"), "alex": (ALEXNET, "alexnet"), "vgg": (VGG16, "vgg16")}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a network was touched"))
    return tmp_path


def pair(channels: int, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    truth = images(3, channels=channels).repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :side, :side]
    return worse(truth, 0.4), truth


@pytest.mark.parametrize("net", ["squeeze", "alex", pytest.param("vgg", marks=pytest.mark.slow)])
def test_lpips_is_the_packages_own_on_the_same_file(nowhere, net):
    import lpips

    file, architecture = NETS[net]
    path = torchvision_file(nowhere / "weights", file, architecture)
    metric, (x, truth) = LPIPS(net=net), pair(3)
    metric.check((3, 32, 32))
    found = metric(x, truth, measured(truth))
    assert torch.hub.get_dir() == str(nowhere / "torch" / "hub"), "torch's cache is what it was"
    hub(nowhere / "torch").mkdir(parents=True)
    path.rename(hub(nowhere / "torch") / path.name)  # where the package itself looks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, about the package's way to ask for weights
        own = lpips.LPIPS(net=net, verbose=False)
    assert same_weights(own, metric.distance.network)
    expected = own(truth.float() / 255, x.float() / 255, normalize=True).detach().flatten().double()
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)
    assert LPIPS(net=net)(x, truth, measured(truth)).equal(found), "also from torch's cache"
    assert found.min() > 1e-3 and metric(truth, truth, measured(truth)).tolist() == [0, 0, 0]
    # An independent implementation, with its own copy of the heads: torchmetrics'.
    other = torchmetrics_lpips._LPIPS(pretrained=True, net=net, pnet_rand=True, use_dropout=True)
    renamed = zip(other.net.state_dict(), own.net.state_dict().values(), strict=True)  # slices in the same order
    other.net.load_state_dict(dict(renamed))
    theirs = other(truth.float() / 127.5 - 1, x.float() / 127.5 - 1).detach().flatten().double()
    torch.testing.assert_close(found, theirs, rtol=2e-5, atol=1e-6)


def test_dists_is_torchmetrics_own_on_the_same_file(nowhere):
    from torchmetrics.functional.image import dists

    path = torchvision_file(hub(nowhere / "torch"), VGG16, "vgg16")
    (x, truth), metric = pair(3), DISTS()
    found = metric(x, truth, measured(truth))
    network = dists.DISTSNetwork()
    assert same_weights(network, metric.distance.network)
    expected = network(x.float() / 255, truth.float() / 255).double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert metric(truth, truth, measured(truth)).abs().max() < 1e-5 < 1e-2 < found.min()
    assert metric.weights() == LPIPS(net="vgg").weights() and path.stat().st_size < 70e6


def test_grey_images_are_three_equal_channels_and_neighbours_do_not_matter(nowhere):
    torchvision_file(nowhere / "weights", SQUEEZENET, "squeezenet1_1")
    metric, (x, truth) = LPIPS(net="squeeze"), pair(1)
    grey = metric(x, truth, measured(truth))
    assert metric(x.expand(-1, 3, -1, -1), truth.expand(-1, 3, -1, -1), measured(truth)).equal(grey)
    assert metric(x[1:2], truth[1:2], measured(truth)).equal(grey[1:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert metric(x, truth, measured(truth)).equal(grey)
    assert metric.to(torch.device("cpu")) is metric and grey.dtype == torch.float64


def test_without_its_file_it_is_one_line(nowhere):
    for metric, name in ((LPIPS(), "alexnet-owt-7be5be79.pth"), (DISTS(), "vgg16-397923af.pth")):
        for ask in (lambda m: m.check((3, 64, 64)), lambda m: m.fingerprint()):
            with pytest.raises(Missing) as caught:
                ask(metric)
            words = str(caught.value)
            assert "\n" not in words and "--prepare" in words and "WEIGHTS_DIR" in words
            assert f"{nowhere / 'weights' / name}" in words and f"https://download.pytorch.org/models/{name}" in words


def test_sizes_and_channels_that_they_cannot_bear_are_said_first(nowhere):
    for metric, shape, words in (
        (LPIPS(net="alex"), (1, 28, 28), "'alex' needs sides of 31 pixels, these images have 28x28; net: vgg takes 16"),
        (LPIPS(net="squeeze"), (3, 16, 64), "'squeeze' needs sides of 17 pixels"),
        (LPIPS(net="vgg"), (2, 64, 64), "2 channels"),
        (DISTS(), (3, 15, 15), "DISTS needs sides of 16 pixels"),
    ):
        with pytest.raises(Missing, match=words):
            metric.check(shape)
    with pytest.raises(ValueError, match="net must be alex, vgg, squeeze, got 'resnet'"):
        LPIPS(net="resnet")


@pytest.mark.parametrize("net", ["squeeze", "alex", "vgg"])
def test_the_smallest_side_is_the_networks(nowhere, net):
    file, architecture = NETS[net]
    torchvision_file(nowhere / "weights", file, architecture)
    metric = LPIPS(net=net)
    least = metric.distance.least
    x, truth = pair(1, least)
    metric.check((1, least, least))
    assert torch.isfinite(metric(x, truth, measured(truth))).all()
    with pytest.raises(RuntimeError, match=r"too small|smaller"):
        metric(x[..., 1:, :], truth[..., 1:, :], measured(truth))
