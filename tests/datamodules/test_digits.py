"""scikit-learn's digits."""

import torch
from sklearn.datasets import load_digits

from datamodules.digits import Digits


def test_pixels_labels_and_indices_are_scikit_learns():
    data, bunch = Digits(), load_digits()
    for split in ("train", "validation", "test"):
        images = data.images(split)
        batch = images.get(list(range(len(images))))
        assert batch.image.shape[1:] == data.shape == images.shape(0)
        assert batch.label.tolist() == bunch.target[batch.index.numpy()].tolist()
        levels = torch.from_numpy(bunch.images)[batch.index].unsqueeze(1)
        assert torch.equal((batch.image.double() * 16 / 255).round(), levels), "the 17 grey levels can be had back"
        assert (batch.image.double() - levels * 255 / 16).abs().max() <= 0.5
    assert len(data.images("test")) >= 300
