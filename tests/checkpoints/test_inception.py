"""Inception's two published files: random weights in the layout of one, a scripted stand-in for the other, against
torch-fidelity and clean-fid on the same files.
"""

import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance, get_folder_features, kernel_distance
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from checkpoints.features import InceptionFeatures
from checkpoints.inception import SCRIPTED, STATES
from common.errors import UserError
from metrics.fid import FID
from metrics.kid import kid


class Layers(nn.Module):
    """2048 features that know colours and places of normalised pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2048, 3, 13, 13, generator=torch.Generator().manual_seed(0)) / 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = nn.functional.avg_pool2d(x, 23)
        return nn.functional.conv2d(small, self.weight)


class StandIn(nn.Module):
    """The surface of the published program."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers()

    def forward(self, x: torch.Tensor, return_features: bool = False, no_output_bias: bool = False) -> torch.Tensor:
        features = self.layers((x - 128) / 128).flatten(1)
        return features if return_features else torch.softmax(features[:, :1008], 1)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def pictures(count: int, seed: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, 20, 24), dtype=torch.uint8, generator=generator)


def test_fid_and_kid_are_clean_fids_from_folders_of_pngs(weights, tmp_path):
    """Its resizing, its wrapper of the network, its distances; ours from tensors."""
    torch.jit.script(StandIn()).save(str(weights / SCRIPTED.name))
    network, theirs = InceptionFeatures(), InceptionV3W(str(weights), download=False)
    sets, features = [pictures(12, 0), pictures(12, 1)], []
    for name, images in zip("ab", sets, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{k:02}.png")
        options = {"num_workers": 0, "device": torch.device("cpu"), "verbose": False}
        features.append(get_folder_features(str(folder), theirs, **options))
    ours = [network.of_all(images, batch_size=5) for images in sets]
    for found, expected in zip(ours, features, strict=True):
        np.testing.assert_allclose(found.features.numpy(), expected, rtol=1e-4, atol=1e-5)
    # Of fewer dimensions than there are images, where a square root of matrices is well posed.
    a, b = (f[:, :6].astype(np.float64) for f in features)
    expected = frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    small = [type(f)(f.features[:, :6]) for f in ours]
    assert FID(features=network).compute(*small).value == pytest.approx(expected, rel=1e-4)
    assert kid(small[0].features, small[1].features).value == pytest.approx(
        kernel_distance(a, b, num_subsets=1), rel=1e-3
    )
    grey = pictures(2, 2, channels=1)
    assert network.of(grey).features.equal(network.of(grey.expand(-1, 3, -1, -1)).features)


def test_the_state_dict_is_torch_fidelitys_network(weights):
    """Features and probabilities on images of 299 pixels, which neither resizes."""
    (own, _), generator = STATES, torch.Generator().manual_seed(0)
    with torch.device("meta"):
        from cleanfid import inception_pytorch

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inception_pytorch, "load_state_dict_from_url", lambda *a, **k: None)
            patch.setattr(nn.Module, "load_state_dict", lambda *a, **k: None)
            layout = inception_pytorch.fid_inception_v3().state_dict()
    state = {}
    for name, value in layout.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
        elif name.endswith(("running_var", "bn.weight")):
            state[name] = torch.rand(value.shape, generator=generator) + 0.5
        else:
            scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
            state[name] = torch.randn(value.shape, generator=generator) * scale
    torch.save(state, weights / own.name)
    network = InceptionFeatures()
    assert network.name == "inception" and network.weight_files({}) == (own,)
    images = torch.randint(0, 256, (1, 3, 299, 299), dtype=torch.uint8, generator=generator)
    theirs = FeatureExtractorInceptionV3("i", ["2048", "logits_unbiased"], str(weights / own.name))
    features, logits = theirs(images)
    found = network.of(images)
    scale = float(features.abs().mean())
    assert scale > 1e-3
    torch.testing.assert_close(found.features, features, rtol=1e-3, atol=1e-4 * scale)
    torch.testing.assert_close(found.probabilities, logits.softmax(1), rtol=1e-2, atol=1e-6)


def test_the_scripted_file_comes_first_and_a_wrong_one_is_said(weights):
    for file in STATES:
        torch.save({"fc.weight": torch.zeros(2, 3)}, weights / file.name)
        with pytest.raises(UserError, match=r"does not hold the weights that its name says.*--prepare"):
            InceptionFeatures()
        (weights / file.name).write_bytes(b"half a file")
        with pytest.raises(UserError, match="not a file of weights, or is damaged"):
            InceptionFeatures(path=str(weights / file.name))
        (weights / file.name).unlink()
    torch.save({"fc.weight": torch.zeros(2, 3)}, weights / STATES[0].name)
    torch.jit.script(StandIn()).save(str(weights / SCRIPTED.name))
    assert InceptionFeatures().dimension == 2048
    assert InceptionFeatures.weight_files({}) == (SCRIPTED,) and not InceptionFeatures.weight_files({"path": "a.pt"})
