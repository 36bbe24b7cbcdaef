"""The contenders compute the same FID of the same images."""

import pytest
import torch

from benchmarks.features_vs_peers import clean_fid, ours_from_files, ours_from_tensors, torchmetrics_fid
from checkpoints.features import ClassifierFeatures
from evaluation.image_files import write_png


def test_all_give_the_same_fid(tmp_path):
    network = ClassifierFeatures(path="assets/classifier_cifar10.safetensors")
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randint(0, 256, (80, 3, 32, 32), dtype=torch.uint8, generator=generator) // (k + 1) for k in range(2)]
    folders = [tmp_path / str(k) for k in range(2)]
    for folder, images in zip(folders, sets, strict=True):
        folder.mkdir()
        for k, image in enumerate(images):
            write_png(folder / f"{k}.png", image)
    values = [ours_from_files(network, folders), clean_fid(network, folders)]
    values += [ours_from_tensors(network, sets), torchmetrics_fid(network, sets)]
    assert values == pytest.approx([values[0]] * 4, rel=1e-4)
