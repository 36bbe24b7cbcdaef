"""Frozen measurements: written, read with NumPy alone, restored by somebody else, and taken back."""

import csv
import dataclasses
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, call, one_sentence
from PIL import Image

from common.errors import UserError
from degradations.frozen_measurements import read_manifest
from evaluation import measurements
from evaluation.config import parse_config
from evaluation.engine import measured
from evaluation.measurements import write_measurements
from evaluation.plan import make_plan
from evaluation.run import Options, evaluate

TOYS = "tests.evaluation.toys."


def config(**changes):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 7,
        "batch_size": 3,
        "tasks": {
            "holes": {
                "degradation": {"class_path": "degradations.random_mask.RandomMask", "init_args": {"removed": 0.4}},
                "noise": {"sigma_255": 6},
            },
            "blur": {
                "degradation": {
                    "class_path": "degradations.circular_blur.CircularGaussianBlur",
                    "init_args": {"std": 0.5},
                },
                "noise": {"class_path": "degradations.poisson_noise.PoissonNoise", "init_args": {"scale": 30}},
                "limit": 4,
            },
        },
        "methods": {"back": {"class_path": TOYS + "Back"}},
    }
    return parse_config(raw | changes, "test")


def from_folder(path: Path, frozen: Path, **entry):
    options = {"path": str(path), "measurements": str(frozen)}
    return {"class_path": "restoration.from_folder.FromFolder", "init_args": options, **entry}


def reader(folder: Path):
    spec = importlib.util.spec_from_file_location("read_measurements", folder / "read_measurements.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    write_measurements(make_plan(config()), folder, block=3)
    return folder


def test_every_measurement_as_it_is_with_its_mask_and_hash(frozen):
    plan = make_plan(config())
    found = list(reader(frozen).measurements(frozen))
    assert [m["task"] for m in found] == ["holes"] * 7 + ["blur"] * 4
    for task in ("holes", "blur"):
        rows = list(plan.tasks[task].rows)
        _, measurement = measured(plan, task, rows)
        mine = [m for m in found if m["task"] == task]
        assert [m["image"] for m in mine] == [plan.names[row] for row in rows]
        for row, m in zip(rows, mine, strict=True):
            assert torch.equal(torch.from_numpy(m["y"]), measurement.y[row]) and m["y"].dtype == np.float32
            assert m["sigma"] == measurement.sigma
            if task == "holes":
                assert torch.equal(torch.from_numpy(m["mask"]), measurement.operator.mask[row])
                assert m["impulse"] is None
            else:
                assert m["mask"] is None
    said = json.loads((frozen / "measurements.json").read_text())["tasks"]
    assert said["holes"]["white"] and not said["blur"]["white"]
    assert said["blur"]["noise"]["class_path"] == "degradations.poisson_noise.PoissonNoise"


def test_the_impulse_is_the_kernel_of_a_blur(frozen):
    """y = impulse * x by a circular convolution about the middle."""
    impulse = next(m["impulse"] for m in reader(frozen).measurements(frozen, task="blur"))
    assert impulse.shape == (1, 8, 8)
    plan = make_plan(config())
    truth, measurement = measured(plan, "blur", [0])
    kernel = np.fft.fft2(np.roll(impulse[0], (-4, -4), (0, 1)))
    blurred = np.fft.ifft2(kernel * np.fft.fft2(truth[0, 0].numpy() / 127.5 - 1)).real
    expected = measurement.operator(measurement.truth)[0, 0].numpy()
    assert np.abs(blurred - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "changed", "first"), [("holes/y", 2, 2), ("holes/mask", 1, 1), ("blur/impulse", 0, 0)]
)
def test_a_changed_file_is_noticed(name, changed, first, frozen, tmp_path):
    shutil.copytree(frozen, tmp_path / "m")
    path = tmp_path / "m" / f"{name}_0000.npy"
    values = np.load(path)
    values[changed] += 1
    np.save(path, values)
    with pytest.raises(ValueError, match=rf"{path.name} was changed: position {first}"):
        list(reader(tmp_path / "m").measurements(tmp_path / "m"))


def test_a_manifest_of_an_earlier_version_without_hashes_of_masks_is_read(frozen, tmp_path):
    shutil.copytree(frozen, tmp_path / "measurements")
    path = tmp_path / "measurements" / "measurements.json"
    content = json.loads(path.read_text())
    for entry in content["entries"]:
        del entry["mask_sha256"], entry["impulse_sha256"]
    path.write_text(json.dumps(content))
    assert [e.mask_sha256 for e in read_manifest(tmp_path / "measurements")] == [None] * 11


def restore_all(frozen: Path, output: Path, *, samples: int = 1) -> None:
    """Somebody's program: y itself, one grey level brighter in each further sample."""
    for m in reader(frozen).measurements(frozen):
        for k in range(samples):
            levels = np.clip(np.round((m["y"][0] + 1) * 127.5) + k, 0, 255).astype(np.uint8)
            path = output / m["task"] / (f"{m['image']}_{k}.png" if samples > 1 else f"{m['image']}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(path)


def test_restorations_come_back_into_the_same_rows(frozen, tmp_path):
    restore_all(frozen, tmp_path / "theirs")
    restore_all(frozen, tmp_path / "several", samples=2)
    methods = {
        "degraded": {"class_path": "restoration.degraded.Degraded"},
        "theirs": from_folder(tmp_path / "theirs", frozen),
        "several": from_folder(tmp_path / "several", frozen, num_samples=2),
    }
    evaluate(config(methods=methods, limit=5), Options(output=tmp_path / "out"))
    with open(tmp_path / "out" / "rows.csv", newline="") as file:
        rows = {(r["task"], r["method"], r["image"], r["sample"]): r for r in csv.DictReader(file)}
    assert len(rows) == (5 + 4) * 4
    plan = make_plan(config(limit=5))
    for task, image in {(key[0], key[2]) for key in rows}:
        theirs = rows[task, "theirs", image, "0"]
        assert theirs["psnr"] == rows[task, "several", image, "0"]["psnr"]
        if task == "blur":
            assert theirs["psnr"] == rows[task, "degraded", image, "0"]["psnr"]
        saved = np.asarray(Image.open(tmp_path / "out" / "restored" / task / "theirs" / f"{image}_0.png"))
        row = plan.names.index(image)
        expected = np.clip(np.round((measured(plan, task, [row])[1].y[0, 0].numpy() + 1) * 127.5), 0, 255)
        assert (saved == expected).all()


def test_what_does_not_fit_is_refused(frozen, tmp_path):
    restore_all(frozen, tmp_path / "theirs")
    method = {"theirs": from_folder(tmp_path / "theirs", frozen)}
    with pytest.raises(UserError, match=r"index \d+ is not among those in .*another config or seed"):
        evaluate(config(methods=method, seed=1), Options(output=tmp_path / "seed"))
    with pytest.raises(UserError, match=r"there is no restoration '.*_0.png'"):
        two = {"theirs": from_folder(tmp_path / "theirs", frozen, num_samples=2)}
        evaluate(config(methods=two), Options(output=tmp_path / "two"))
    first = sorted((tmp_path / "theirs" / "holes").iterdir())[0]
    Image.new("L", (9, 8)).save(first)
    with pytest.raises(UserError, match=r"has 9x8 pixels, the image has 8x8"):
        evaluate(config(methods=method), Options(output=tmp_path / "size"))
    with pytest.raises(UserError, match=r"there is no measurements.json in"):
        evaluate(config(methods={"theirs": from_folder(tmp_path / "theirs", tmp_path)}), Options(output=tmp_path / "n"))
    with pytest.raises(UserError, match=r"path='.*' is no folder"):
        evaluate(config(methods={"theirs": from_folder(tmp_path / "nowhere", frozen)}), Options(output=tmp_path / "n"))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0"])
def test_a_restoration_that_is_no_picture_is_named(content, frozen, tmp_path):
    restore_all(frozen, tmp_path / "theirs")
    first = sorted((tmp_path / "theirs" / "holes").iterdir())[0]
    first.write_bytes(content)
    with pytest.raises(UserError, match=rf"the restoration '{first}' cannot be read as a picture, .*save it as PNG"):
        evaluate(config(methods={"theirs": from_folder(tmp_path / "theirs", frozen)}), Options(output=tmp_path / "out"))


def edited(change):
    """A change of the manifest, which has to look for y by its values then."""

    def write(folder: Path) -> None:
        path = folder / "measurements.json"
        content = json.loads(path.read_text())
        for entry in content["entries"]:
            entry["y_sha256"] = "0" * 64
        change(content)
        path.write_text(json.dumps(content))

    return write


def each(change):
    return edited(lambda content: [change(entry) for entry in content["entries"]])


BLOCK = Path("holes/y_0000.npy")


def shortened(folder: Path) -> None:
    edited(lambda _: None)(folder)
    (folder / BLOCK).write_bytes((folder / BLOCK).read_bytes()[:200])


def removed(folder: Path) -> None:
    edited(lambda _: None)(folder)
    (folder / BLOCK).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (edited(lambda content: content.pop("entries")), r"measurements.json' is damaged: write"),
        (edited(lambda content: content.update(entries=3)), r"measurements.json' is damaged: write"),
        (edited(lambda content: content.update(entries=["a"])), r"measurements.json' is damaged: write"),
        (edited(lambda content: content.update(version=99)), r"not a manifest that this version wrote: write"),
        (each(lambda entry: entry.pop("index")), r"measurements.json' is damaged: write"),
        (each(lambda entry: entry.update(more=1)), r"measurements.json' is damaged: write"),
        (each(lambda entry: entry.update(position="0")), r"measurements.json' is damaged: write"),
        (each(lambda entry: entry.update(position=77)), r"y_0000.npy' has 3 measurements, .* position 77: write"),
        (each(lambda entry: entry.update(position=-1)), r"y_0000.npy' has 3 measurements, .* position -1: write"),
        (
            edited(lambda content: content.update(entries=[])),
            r"index \d+ is not among those in .*another config or seed",
        ),
        (removed, r"holes/y_0000.npy', which measurements.json names, is not there: write"),
        (shortened, r"holes/y_0000.npy' is damaged: write"),
    ],
)
def test_measurements_that_are_damaged_are_one_sentence(damage, message, frozen, tmp_path):
    restore_all(frozen, tmp_path / "theirs")
    shutil.copytree(frozen, tmp_path / "measurements")
    damage(tmp_path / "measurements")
    method = from_folder(tmp_path / "theirs", tmp_path / "measurements")
    with pytest.raises(UserError, match=message) as error:
        evaluate(config(methods={"theirs": method}), Options(output=tmp_path / "out"))
    assert "\n" not in str(error.value)


def test_another_processors_last_bits_are_taken(frozen, tmp_path):
    """y is found by its hash, or else within 1e-4."""
    restore_all(frozen, tmp_path / "theirs")
    plan = make_plan(config(methods={"theirs": from_folder(tmp_path / "theirs", frozen)}))
    _, measurement = measured(plan, "holes", [0, 1])
    moved = dataclasses.replace(measurement, y=measurement.y + 3e-6)
    method = plan.methods["theirs"].method
    same = [method.restore(m, random=plan.random).samples for m in (measurement, moved)]
    assert torch.equal(*same)


def test_the_command_and_its_mistakes(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: datamodules.digits.Digits\nlimit: 2\ntasks: {a: {degradation: degradations.identity.Identity}}\n"
        "methods: {back: tests.evaluation.toys.Back}\n"
    )
    command = ("-m", "evaluation.measurements", "--config", path, "--output", tmp_path / "m", "--limit=1")
    done = call(*command)
    assert done.returncode == 0 and "1 measurements in" in done.stderr
    one_sentence(call(*command), "holds files already")


def test_the_reader_is_short():
    code = measurements.READER.split('"""')[2]
    assert len(code.strip().splitlines()) <= 30
    assert "torch" not in code


def test_the_example_restores_with_deepinv(tmp_path, monkeypatch):
    pytest.importorskip("deepinv")
    plan = make_plan(config(limit=1))
    write_measurements(plan, tmp_path / "m")
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples" / "restore_with_deepinv.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    for words in ([], [str(tmp_path / "m")], [str(tmp_path / "nowhere"), str(tmp_path / "by_deepinv")]):
        monkeypatch.setattr(sys, "argv", ["x", *words])
        with pytest.raises(SystemExit, match="error: two folders are needed"):
            example.main()
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path / "m"), str(tmp_path / "by_deepinv")])
    monkeypatch.setattr(example, "STEPS", 20)
    example.main()
    name = plan.names[0]
    for method in ("tv", "tikhonov"):
        assert (tmp_path / "by_deepinv" / method / "holes" / f"{name}.png").is_file()
        assert not (tmp_path / "by_deepinv" / method / "blur").exists()
