"""scikit-image's photographs."""

import pytest
import skimage.data
import torch

from common.errors import UserError
from datamodules.natural_images import NaturalImages


def test_pixels_are_scikit_images_own():
    images = NaturalImages(batch_size=1, names=["coffee", "astronaut"]).images("test")
    assert [images.name(r) for r in range(2)] == ["astronaut.png", "coffee.png"] and images.shape(1) == (3, 400, 600)
    assert torch.equal(images.get([1]).image[0], torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1))
    camera = NaturalImages(mode="grey", names=["camera"])
    assert torch.equal(camera.images("test").get([0]).image[0, 0], torch.from_numpy(skimage.data.camera()))
    assert camera.shape == (1, 512, 512)


def test_all_photographs_ship_with_the_package():
    colour, grey = NaturalImages(size=32), NaturalImages(size=32, mode="grey")
    assert len(colour.images("test")) == 8 == len(colour.images("train")) and len(grey.images("test")) == 14
    assert colour.shape == (3, 32, 32) and grey.images("test").get(list(range(14))).image.shape == (14, 1, 32, 32)
    assert grey.images("test").get([2]).index.item() == colour.images("test").get([2]).index.item() == 2


def test_refusals():
    with pytest.raises(UserError, match=r"no colour photograph 'cofee' \(did you mean 'coffee'\?\)"):
        NaturalImages(names=["cofee"])
    with pytest.raises(UserError, match="differ in size: give size, or one name"):
        _ = NaturalImages().shape
    for wrong, message in (({"size": 0}, "size must be"), ({"mode": "auto"}, "mode must be")):
        with pytest.raises(UserError, match=message):
            NaturalImages(**wrong)
