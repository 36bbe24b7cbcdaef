"""An evaluation on a device with too little memory for a batch: fewer images at once, the same rows and images."""

import csv
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from evaluation.config import parse_config
from evaluation.generation import chunks
from evaluation.run import Options, evaluate
from tests.evaluation.toys import Large

TOYS = "tests.evaluation.toys."


def rows(folder: Path, method: dict) -> list[tuple]:
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 11,
        "batch_size": 8,
        "tasks": {"denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {"dither": method},
    }
    evaluate(parse_config(raw, "test"), Options(folder))
    with open(folder / "rows.csv", newline="") as file:
        return [(r["image"], r["sample"], r["psnr"], r["ssim"]) for r in csv.DictReader(file)]


def test_half_as_many_images_give_the_same_rows(tmp_path):
    whole = rows(tmp_path / "whole", {"class_path": TOYS + "Dither", "num_samples": 2})
    Large.asked.clear()
    small = rows(tmp_path / "small", {"class_path": TOYS + "Large", "init_args": {"room": 3}, "num_samples": 2})
    assert small == whole and len(small) == 22
    assert max(Large.asked) > 3 and Large.asked[-1] <= 3
    pictures = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole" / "restored").rglob("*.png"))
    assert len(pictures) == 22
    for path in pictures:
        assert (tmp_path / "small" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


def test_a_device_without_room_for_one_image_is_an_error_of_one_sentence(tmp_path):
    with pytest.raises(UserError, match="denoise x dither: the device has too little memory for one image"):
        rows(tmp_path, {"class_path": TOYS + "Large", "init_args": {"room": 0}})


def test_drawing_for_generation_takes_fewer_at_once(monkeypatch):
    """The calls of the network that failed are not counted."""
    asked, network = [], torch.nn.Identity()

    def draw(denoiser, sampler, sigmas, *, index, **_):
        asked.append(len(index))
        network(torch.zeros(len(index), 1))
        if len(index) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.tensor(index, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2) / 10

    class Anything:
        def __getattr__(self, name):
            return Anything()

        def __call__(self, *_, **__):
            return None

    cell, plan = Anything(), Anything()
    cell.network, cell.name, cell.fingerprint = network, "x", "y"
    plan.cells, plan.device = [cell], torch.device("cpu")
    plan.config.seed, found = 0, {}
    plan.config = Anything()
    plan.config.seed, plan.config.batch_size = 0, 8
    plan.features = Anything()
    plan.features.of = lambda pixels: chunks.Features(pixels.flatten(1).float(), None)
    monkeypatch.setattr(chunks, "draw", draw)
    monkeypatch.setattr(chunks, "write_atomically", lambda path, content: found.update(content=content))
    chunks.draw_chunk(plan, Path("."), chunks.Chunk(0, 0, 8))
    assert asked == [8, 4, 2, 2, 2, 2]
    content = chunks.safetensors.torch.load(found["content"])
    assert content["features"].shape == (8, 4) and content["features"][:, 0].unique().numel() == 8
    assert b'"nfe": 1.0' in found["content"].replace(b"\\", b"")
