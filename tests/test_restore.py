"""restore.py: one's own picture, from the command line, with every method; every mistake is one sentence."""

import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from helpers import call_process, one_sentence, tiny_denoiser, write_tiny_prior
from picture_examples import exif_of, lain, too_large
from PIL import Image, ImageCms

import restore
from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from common import png16
from common.build import PROJECT
from common.errors import run_cli
from common.files import held_folder
from common.image_range import to_float
from common.picture_files import write_picture
from degradations.average_pool import AveragePool
from degradations.bicubic import Bicubic
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.severity.gaussian_blur import GaussianBlur
from diffusion.cold import cold_sample
from diffusion.cold_restorer import ColdRestorer
from diffusion.edm import EDMDenoiser, LogNormal
from inference.iterates import Iterates
from networks.denoising_unet import DenoisingUNet
from networks.unet import UNet
from restoration.pseudo_inverse import PseudoInverse
from restoration.total_variation import TotalVariation


@pytest.fixture
def cli(monkeypatch, capsys):
    """restore.py with these words, in this process: (exit code, standard output, standard error)."""

    def run(*words: object) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr(sys, "argv", ["restore.py", *map(str, words)])
        with pytest.raises(SystemExit) as outcome:
            run_cli(restore.main)
        out, err = capsys.readouterr()
        return outcome.value.code, out, err

    return run


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def hole(height: int, width: int) -> np.ndarray:
    """A mask without one pixel."""
    mask = np.full((height, width), 255, np.uint8)
    mask[1, 2] = 0
    return mask


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture
def grey_prior(tmp_path) -> Path:
    return write_tiny_prior(tmp_path / "grey.safetensors", (1, 8, 8))


def test_masked_picture_keeps_what_is_known(cli, tmp_path):
    """pseudo_inverse of a mask: known pixels come back bit for bit, missing ones are mid-grey whatever was painted
    there.
    """
    picture, mask = pixels(10, 12), np.full((10, 12), 255, np.uint8)
    mask[3:6, 4:9] = 0
    save(tmp_path / "in.png", picture), save(tmp_path / "mask.png", mask)
    code, out, err = cli(
        tmp_path / "in.png", "--mask", tmp_path / "mask.png", "--method", "pseudo_inverse", "--output", tmp_path / "out"
    )
    assert code == 0, err
    restored = read(tmp_path / "out/restored.png")
    assert np.array_equal(restored[mask == 255], picture[mask == 255]) and set(restored[mask == 0].tolist()) == {128}
    assert out.splitlines() == [str(tmp_path / "out/restored.png"), str(tmp_path / "out/comparison.png")]
    comparison = read(tmp_path / "out/comparison.png")
    assert comparison.ndim == 3 and comparison.shape[1] > 2 * 120  # two tiles, enlarged
    assert ((comparison == (92, 124, 168)).all(-1)).any()  # holes are shown as holes


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_with_the_picture(cli, tmp_path, orientation):
    """Both lie as the camera was held: holes are filled where they are, and nothing else is touched."""
    upright, known = pixels(10, 12), np.full((10, 12), 255, np.uint8)
    known[1:4, 2:9] = 0
    damaged = np.where(known == 0, 128, upright).astype(np.uint8)
    save(tmp_path / "in.png", lain(damaged, orientation), exif=exif_of(orientation))
    save(tmp_path / "mask.png", lain(known, orientation), exif=exif_of(orientation))
    save(tmp_path / "truth.png", lain(upright, orientation), exif=exif_of(orientation))
    words = ["--mask", tmp_path / "mask.png", "--truth", tmp_path / "truth.png", "--method", "pseudo_inverse"]
    code, out, err = cli(tmp_path / "in.png", *words, "--output", tmp_path / "out")
    assert code == 0 and "17.5 % of the pixels are missing" in err, err
    assert np.array_equal(read(tmp_path / "out/restored.png"), damaged)
    error = np.square(damaged.astype(float) - upright).mean()
    assert f"restored: PSNR {20 * np.log10(255) - 10 * np.log10(error):.2f} dB" in out


@pytest.mark.parametrize("ending", ["jpg", "tif", "png"])
def test_the_colour_profile_comes_back(cli, tmp_path, ending):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / f"in.{ending}", pixels(8, 8, 3), icc_profile=profile)
    words = ["--method", "total_variation", "--method.iterations=2", "--sigma_255=5"]
    code, _, err = cli(tmp_path / f"in.{ending}", *words, "--output", tmp_path / "out")
    assert code == 0, err
    with Image.open(tmp_path / "out/restored.png") as opened:
        assert opened.info["icc_profile"] == profile


def test_a_picture_that_is_too_large_is_called_so(cli, tmp_path):
    (tmp_path / "huge.png").write_bytes(too_large())
    save(tmp_path / "in.png", pixels(8, 8))
    for words in (
        ["huge.png"],
        ["in.png", "--mask", tmp_path / "huge.png"],
        ["in.png", "--truth", tmp_path / "huge.png"],
    ):
        code, _, err = cli(
            tmp_path / words[0], *words[1:], "--method=pseudo_inverse", "--sigma_255=0", "--output", tmp_path / "out"
        )
        assert code == 2 and "is too large" in err and err.count("error: ") == 1, err


@pytest.mark.parametrize(("name", "factor"), [("average_pool", 2), ("bicubic", 4)])
def test_super_resolution_gives_the_larger_picture(cli, tmp_path, name, factor):
    """The picture is the small one; the restored one, made small again, is it."""
    picture = pixels(8, 12, 3)
    save(tmp_path / "in.png", picture)
    code, _, err = cli(
        tmp_path / "in.png",
        "--degradation",
        name,
        f"--degradation.factor={factor}",
        "--method",
        "total_variation",
        "--method.weight",
        "1e-4",
        "--method.iterations=20",
        "--output",
        tmp_path / "out",
    )
    assert code == 0, err
    restored = read(tmp_path / "out/restored.png")
    assert restored.shape == (8 * factor, 12 * factor, 3)
    if name == "average_pool":
        again = restored.reshape(8, factor, 12, factor, 3).mean((1, 3))
        assert np.abs(again - picture).max() < 1.0


def test_colours_of_a_grey_picture(cli, tmp_path):
    save(tmp_path / "in.png", pixels(8, 8))
    code, _, err = cli(
        tmp_path / "in.png", "--degradation", "grey", "--method", "pseudo_inverse", "--output", tmp_path / "out"
    )
    assert code == 0, err
    assert np.array_equal(read(tmp_path / "out/restored.png"), np.repeat(read(tmp_path / "in.png")[..., None], 3, 2))


@pytest.mark.parametrize("method", ["sdedit", "dps"])
def test_methods_with_a_prior(cli, tmp_path, grey_prior, method):
    """Several samples, equal for equal seeds, of a size that the prior was not trained on; three equal channels are
    one.
    """
    picture = np.repeat(pixels(9, 13)[..., None], 3, 2)
    save(tmp_path / "in.png", picture)
    words = [
        "--degradation=identity",
        "--sigma_255=20",
        "--method",
        method,
        "--method.steps=6",
        "--device=cpu",
        "--any_size",
    ]
    common = [tmp_path / "in.png", *words, "--prior", grey_prior]
    code, out, err = cli(*common, "--num_samples=3", "--output", tmp_path / "a")
    assert code == 0, err
    assert "three channels are equal" in err and "trained on 8x8 pixels, this picture is restored at 13x9" in err
    names = ["restored_0.png", "restored_1.png", "restored_2.png", "comparison.png"]
    names += ["curve.png", "curve.csv"] if method == "dps" else []  # DPS has a trace
    assert [Path(line).name for line in out.splitlines()] == names
    samples = [read(tmp_path / f"a/restored_{k}.png") for k in range(3)]
    assert all(s.shape == (9, 13) for s in samples) and not np.array_equal(samples[0], samples[1])
    assert cli(*common, "--output", tmp_path / "b")[0] == cli(*common, "--seed=1", "--output", tmp_path / "c")[0] == 0
    assert np.abs(read(tmp_path / "b/restored.png").astype(int) - samples[0]).max() <= 1
    assert not np.array_equal(read(tmp_path / "c/restored.png"), samples[0])


def test_raw_and_averaged_weights_are_told_apart(cli, tmp_path):
    raw, averaged = tiny_denoiser(seed=1), tiny_denoiser(seed=2)
    state = {f"denoiser.network.{k}": v for k, v in raw.network.state_dict().items()}
    content = {
        "prior": describe_prior(raw, data="Digits"),
        "state_dict": state,
        "ema": {"weights": averaged.network.state_dict(), "updates": 1},
    }
    torch.save(content, tmp_path / "run.ckpt")
    picture = save(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8))
    pixels = {}
    for name, prior, weights in (
        ("raw", "run.ckpt", "raw"),
        ("ema", "run.ckpt", "ema"),
        ("a", "raw.safetensors", "ema"),
        ("b", "ema.safetensors", "ema"),
    ):
        if name in "ab":
            write_tiny_prior(tmp_path / prior, seed=1 if name == "a" else 2)
        words = (
            "--degradation",
            "identity",
            "--sigma_255",
            40,
            "--method",
            "sdedit",
            "--method.steps=3",
            "--weights",
            weights,
            "--device",
            "cpu",
        )
        code, _, err = cli(picture, *words, "--prior", tmp_path / prior, "--output", tmp_path / name)
        assert code == 0, err
        pixels[name] = np.asarray(Image.open(tmp_path / name / "restored.png")).astype(int)
    # Weights of .safetensors files of the same denoisers say which is which.
    assert np.abs(pixels["raw"] - pixels["a"]).max() <= 1 and np.abs(pixels["ema"] - pixels["b"]).max() <= 1
    assert np.abs(pixels["raw"] - pixels["ema"]).max() > 5


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_and_alpha_stay(cli, tmp_path, channels):
    """pseudo_inverse of noise alone changes nothing: what is written is what was read, level by level, where it is
    visible.
    """
    array = np.random.default_rng(0).integers(1, 65536, (9, 13, channels)).astype(np.uint16)
    if channels in (2, 4):
        array[2:4, 5:8, -1] = 0
    (tmp_path / "in.png").write_bytes(png16.encode(array))
    code, _, err = cli(tmp_path / "in.png", "--method=pseudo_inverse", "--output", tmp_path / "out")
    assert code == 0, err
    restored, shown = (
        png16.decode((tmp_path / "out/restored.png").read_bytes()),
        (array[..., -1:] > 0 if channels in (2, 4) else True),
    )
    assert np.array_equal(
        np.where(shown, restored, 0)[..., : channels - 1 or 1], np.where(shown, array, 0)[..., : channels - 1 or 1]
    )
    assert np.array_equal(restored[..., -1] if channels in (2, 4) else array[..., -1], array[..., -1])


def test_super_resolution_of_16_bits_with_alpha(cli, tmp_path):
    array = np.full((6, 8, 4), 65535, np.uint16)
    array[..., 0] = 20000
    array[:, :4, 3] = 0
    (tmp_path / "in.png").write_bytes(png16.encode(array))
    code, _, err = cli(
        tmp_path / "in.png", "--factor=2", "--kernel=average", "--method=pseudo_inverse", "--output", tmp_path / "out"
    )
    assert code == 0, err
    assert (
        "assumed: it was made smaller by average pooling x2" in err
        and "noise: --sigma_255 is not given, none is assumed" in err
    )
    restored = png16.decode((tmp_path / "out/restored.png").read_bytes())
    assert (
        restored.shape == (12, 16, 4)
        and np.all(restored[..., 0] == 20000)
        and np.all(restored[:, :4, 3] == 0)
        and np.all(restored[:, 12:, 3] == 65535)
    )


def test_noise_is_estimated_or_given_or_none(cli, tmp_path):
    """Pixels of standard deviation 30 around grey; total variation smooths by what it is told."""
    noisy = (128 + 30 * np.random.default_rng(0).standard_normal((48, 40))).clip(0, 255).astype(np.uint8)
    save(tmp_path / "in.png", noisy)
    rough = {}
    for name, words in {"estimated": [], "none": ["--sigma_255=0"], "given": ["--sigma_255", "30"]}.items():
        code, _, err = cli(tmp_path / "in.png", "--method=total_variation", *words, "--output", tmp_path / name)
        assert code == 0 and ("estimated at" in err) == (name == "estimated"), err
        if name == "estimated":
            assert float(err.split("estimated at ")[1].split()[0]) == pytest.approx(30, rel=0.1)
        rough[name] = float(read(tmp_path / name / "restored.png").std())
    assert rough["estimated"] == pytest.approx(rough["given"], rel=0.15) and rough["none"] > 1.5 * rough["given"]


def test_a_truth_an_iterative_method_and_its_note(cli, tmp_path, monkeypatch):
    """PSNR and SSIM of what was given and of what was restored; the strip, the curve as a picture and as a table; why
    it stopped.
    """
    truth, noisy = np.full((20, 24), 128, np.uint8), pixels(20, 24)
    save(tmp_path / "truth.png", truth), save(tmp_path / "in.png", noisy)
    solve = TotalVariation.restore

    def with_note(self, measurement, **options):
        return replace(solve(self, measurement, **options), notes=("stopped after 3 iterations because nobody moved",))

    monkeypatch.setattr(TotalVariation, "restore", with_note)
    words = [
        "--method=total_variation",
        "--sigma_255=70",
        "--truth",
        tmp_path / "truth.png",
        "--output",
        tmp_path / "out",
    ]
    code, out, err = cli(tmp_path / "in.png", *words)
    assert code == 0 and "note: total_variation: stopped after 3 iterations because nobody moved" in err
    lines = out.splitlines()
    assert [Path(line).name for line in lines[:5]] == [
        "restored.png",
        "comparison.png",
        "iterates.png",
        "curve.png",
        "curve.csv",
    ]
    restored = read(tmp_path / "out/restored.png")
    expected = [
        (name, 10 * np.log10(255**2 / np.square(x.astype(float) - 128).mean()))
        for name, x in (("given", noisy), ("restored", restored))
    ]
    for line, (name, decibels) in zip(lines[5:], expected, strict=True):
        assert line.startswith(f"{name}: PSNR {decibels:.2f} dB, SSIM 0.") or (
            name == "restored" and f"PSNR {decibels:.2f}" in line
        ), line
    assert (tmp_path / "out/curve.csv").read_text().startswith("iteration,objective\n0,")


def test_a_deep_image_prior(cli, tmp_path):
    """No degradation, no noise level: said why it stopped; transparent pixels stay so; a picture smaller
    than the network allows is refused.
    """
    picture = pixels(19, 22, 4)
    picture[..., 3] = 255
    picture[:5, :6, 3] = 0
    save(tmp_path / "in.png", picture)
    code, _, err = cli(
        tmp_path / "in.png", "--method=dip", "--method.iterations=6", "--device=cpu", "--output", tmp_path / "a"
    )
    assert code == 0 and "note: dip: stopped after 6 iterations because " in err and "estimated at" in err, err
    restored = read(tmp_path / "a/restored.png")
    assert restored.shape == (19, 22, 4) and np.array_equal(restored[..., 3], picture[..., 3])
    assert (tmp_path / "a/iterates.png").exists() and not (tmp_path / "a/unfinished.png").exists()
    save(tmp_path / "small.png", pixels(15, 40))
    code, _, err = cli(tmp_path / "small.png", "--method=dip", "--output", tmp_path / "b")
    assert code == 2 and "needs at least 16 x 16" in err and not (tmp_path / "b").exists()


@pytest.fixture
def photograph_prior(tmp_path) -> Path:
    """A random denoiser of colour pictures of any size."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DenoisingUNet(in_channels=3, channels=4, multipliers=[1, 2], blocks=1, time_channels=4)
    levels = LogNormal(sigma_min=0.01, sigma_max=4.0)
    denoiser = EDMDenoiser(network=network, levels=levels, sigma_data=0.5, data_shape=(3, 16, 16))
    path = tmp_path / "photographs.safetensors"
    write_safetensors(path, network, describe_prior(denoiser, data="photographs"), dtype=torch.float32)
    return path


@pytest.mark.parametrize("channels", [(), (3,)])
def test_with_a_denoiser_alone(cli, tmp_path, photograph_prior, channels):
    """--prior and no --method: plug-and-play, one call for noise, at any size, grey and colour."""
    save(tmp_path / "in.png", pixels(19, 22, *channels))
    code, _, err = cli(tmp_path / "in.png", "--prior", photograph_prior, "--output", tmp_path / "out")
    assert code == 0 and "plug_and_play: 1 restoration in" in err and "1 network calls" in err, err
    assert ("three equal channels" in err) == (not channels)
    assert read(tmp_path / "out/restored.png").shape == (19, 22, *channels)


def test_a_kernel_and_a_factor_and_a_mask(cli, tmp_path, photograph_prior):
    """Blurred by the kernel in a file, made smaller, with holes: each is said; the answer is the larger picture."""
    save(tmp_path / "in.png", pixels(10, 12, 3))
    save(tmp_path / "mask.png", hole(10, 12)), save(tmp_path / "kernel.png", pixels(3, 5))
    words = ["--degradation", tmp_path / "kernel.png", "--factor=2", "--mask", tmp_path / "mask.png"]
    more = ["--sigma_255=2", "--method.steps=2", "--prior", photograph_prior]
    code, _, err = cli(tmp_path / "in.png", *words, *more, "--output", tmp_path / "out")
    assert code == 0 and "kernel.png' of 5x3 pixels" in err and "0.8 % of the pixels are missing" in err, err
    assert read(tmp_path / "out/restored.png").shape == (20, 24, 3) and "2 network calls" in err


def test_a_folder(cli, tmp_path, photograph_prior):
    """Exit code 0, then 2 when one of its pictures is broken."""
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/a.png", pixels(8, 9, 3)), save(tmp_path / "in/b.png", pixels(9, 8))
    words = [tmp_path / "in", "--prior", photograph_prior, "--sigma_255=20", "--output", tmp_path / "out"]
    code, out, err = cli(*words)
    assert code == 0 and "2 pictures: 2 restored" in out and str(tmp_path / "out/summary.csv") in out, err
    (tmp_path / "in/c.png").write_bytes(b"broken")
    code, _, err = cli(*words)
    assert code == 2 and "1 of 3 pictures were not restored: c.png" in err and "a.png: as before" in err


def test_a_picture_that_does_not_fit_the_prior(cli, tmp_path, grey_prior):
    """Refused; resized when asked, and that is said; truth and picture alike."""
    (
        save(tmp_path / "in.png", pixels(20, 16)),
        save(tmp_path / "mask.png", np.where(np.eye(20, 16) > 0, 0, 255).astype(np.uint8)),
    )
    words = [tmp_path / "in.png", "--method=sdedit", "--prior", grey_prior, "--method.steps=3", "--device=cpu"]
    code, _, err = cli(*words, "--output", tmp_path / "a")
    assert (
        code == 2
        and "trained on pictures of 8x8 pixels, and this one is restored at 16x20: give --resize" in err
        and not (tmp_path / "a").exists()
    )
    code, out, err = cli(
        *words, "--resize", "--truth", tmp_path / "in.png", "--mask", tmp_path / "mask.png", "--output", tmp_path / "b"
    )
    assert (
        code == 0
        and "16x20 pixels, is made 8x8, the size that the prior was trained on, which changes its proportions" in err
    ), err
    assert read(tmp_path / "b/restored.png").shape == (8, 8) and "SSIM not defined under 11 pixels" in out


def test_sampler_as_an_option(cli, tmp_path, grey_prior):
    save(tmp_path / "in.png", pixels(8, 8))
    words = [
        tmp_path / "in.png",
        "--degradation=identity",
        "--method=sdedit",
        "--prior",
        grey_prior,
        "--method.steps=8",
        "--output",
        tmp_path / "out",
    ]
    code, _, err = cli(
        *words, "--method.sampler.class_path=diffusion.samplers.ddim.DDIM", "--method.sampler.init_args.eta=0.5"
    )
    assert code == 0, err


def test_a_deterministic_method_gives_one(cli, tmp_path):
    save(tmp_path / "in.png", pixels(8, 8))
    code, out, err = cli(
        tmp_path / "in.png",
        "--degradation=identity",
        "--method=pseudo_inverse",
        "--num_samples=4",
        "--output",
        tmp_path / "out",
    )
    assert code == 0 and "it gives one restoration" in err and len(out.splitlines()) == 2
    assert np.array_equal(read(tmp_path / "out/restored.png"), read(tmp_path / "in.png"))


def test_lists(cli):
    code, out, _ = cli("--list_methods")
    assert code == 0
    for name in (
        "pseudo_inverse",
        "total_variation",
        "sdedit  (needs a prior)",
        "dps  (needs a prior)",
        "--method.scale=null",
    ):
        assert name in out
    code, out, _ = cli("--list_degradations")
    assert code == 0 and "average_pool" in out and "--degradation.factor" in out
    assert "\nrandom_mask" not in out  # nobody can draw again what happened to a picture


@pytest.mark.parametrize("degradation", [Identity(), AveragePool(factor=3), Bicubic(factor=2), Grey()])
def test_the_clean_shape_is_the_one_that_is_measured_so(degradation):
    measured = (1, 5, 7)
    assert degradation.bind({}, degradation.clean_shape(measured)).output_shape == measured


def _bad_pictures(folder: Path) -> dict[str, tuple[Path, str]]:
    colour = pixels(6, 5, 3)
    clear = np.concatenate([colour, np.zeros((6, 5, 1), np.uint8)], -1)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    save(folder / "good.png", colour)
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:70])
    Image.fromarray(pixels(6, 5).astype(np.int32) * 200).save(folder / "deep.tif")
    save(folder / "point.png", pixels(1, 1))
    save(folder / "line.png", pixels(1, 9))
    tifffile.imwrite(folder / "nan.tif", np.where(np.eye(6) > 0, np.nan, 0.5).astype(np.float32))
    tifffile.imwrite(folder / "range.tif", pixels(6, 5).astype(np.float32))
    (folder / "shallow.png").write_bytes(png16.encode(pixels(6, 5, 3).astype(np.uint16))[:-30])
    save(folder / "clear.png", clear)
    Image.fromarray(colour).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(pixels(6, 5)).save(
        folder / "film.gif", save_all=True, append_images=[Image.fromarray(pixels(6, 5, seed=1))]
    )
    return {
        "missing": (folder / "nowhere.png", "there is no picture at"),
        "empty": (folder / "empty.png", "is empty"),
        "text": (folder / "text.png", "cannot be read as a picture"),
        "cut": (folder / "cut.png", "cannot be read as a picture"),
        "deep": (folder / "deep.tif", "save it in grey or RGB with 8 or 16 bits"),
        "clear": (folder / "clear.png", "all are missing or transparent"),
        "point": (folder / "point.png", "has 1x1 pixels"),
        "line": (folder / "line.png", "has 9x1 pixels"),
        "nan": (folder / "nan.tif", "has 6 pixels of NaN or infinite value"),
        "range": (folder / "range.tif", "scale them so that 0 is black and 1 is white"),
        "shallow": (folder / "shallow.png", "cut off or damaged"),
        "print": (folder / "print.jpg", "colour mode CMYK"),
        "film": (folder / "film.gif", "holds 2 pictures"),
    }


BAD = (
    "missing",
    "empty",
    "text",
    "cut",
    "deep",
    "clear",
    "point",
    "line",
    "nan",
    "range",
    "shallow",
    "print",
    "film",
)


@pytest.mark.parametrize("case", BAD)
def test_pictures_that_cannot_be_restored(cli, tmp_path, case):
    path, message = _bad_pictures(tmp_path)[case]
    code, _, err = cli(path, "--degradation", "identity", "--method", "pseudo_inverse", "--output", tmp_path / "out")
    assert code == 2 and message in err and err.count("error: ") == 1, err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--method=pseudo_inverse", "--degradation=bicubic", "--factor=2"],
            "--degradation bicubic and --factor 2 both make it smaller",
        ),
        (["--method=pseudo_inverse", "--mask=MASK", "--factor=2"], "has size 5x4"),
        (["--method=pseudo_inverse", "--kernel=bicubic"], "give --factor F too"),
        (["--method=pseudo_inverse", "--factor=1"], "--factor must be a whole number of at least 2, got 1"),
        (["--method=pseudo_inverse", "--factor=-4"], "--factor must be a whole number of at least 2, got -4"),
        (["--method=pseudo_inverse", "--factor=2.5"], "invalid int value: '2.5'"),
        (["--method=pseudo_inverse", "--factor=4", "--kernel=bicubi"], "did you mean 'bicubic'?"),
        (["--method=pseudo_inverse", "--factor=100000", "--kernel=average"], "would have 800000x800000 pixels"),
        (["--method=pseudo_inverse", "--truth=nowhere.png"], "there is no picture at 'nowhere.png'"),
        (["--method=pseudo_inverse", "--truth=MASK"], "has 5x4 pixels (width x height), the restored picture has 8x8"),
        (
            ["--method=pseudo_inverse", "--factor=2", "--kernel=average", "--truth=PICTURE"],
            "the restored picture has 16x16",
        ),
        (["--method=pseudo_inverse", "--truth=GREY"], "is in grey, the picture is restored in colour"),
        (["--method=pseudo_inverse", "--mask=NOTHING"], "so nothing is known"),
        (["--method=pseudo_inverse", "--sigma_255=nan"], "must be finite, at least 0 and at most 255"),
        (["--method=dps", "--resize", "--any_size"], "exclude each other"),
        (["--method=pseudo_inverse", "--prior=PRIOR"], "--method pseudo_inverse uses none"),
        (["--method=dip", "--prior=PRIOR"], "--method dip uses none: choose a method that does"),
        (["--method=dpss", "--degradation=identity"], "--method 'dpss' does not exist (did you mean 'dps'?)"),
        (["--method=pseudo_inverse", "--degradation=average_pol"], "did you mean 'average_pool'?"),
        (["--method=pseudo_inverse", "--degradation=random_mask"], "--degradation 'random_mask' does not exist"),
        (
            ["--method=total_variation", "--degradation=identity", "--method.wait=2"],
            "has no option 'wait' (did you mean 'weight'?)",
        ),
        (
            ["--method=total_variation", "--degradation=identity", "--method.weight=heavy"],
            "weight of TotalVariation must be a number",
        ),
        (["--method=total_variation", "--degradation=identity", "--method.weight=-1"], "weight must be positive"),
        (["--method=pseudo_inverse", "--degradation=average_pool"], "AveragePool needs the option 'factor'"),
        (["--method=pseudo_inverse", "--degradation=circular_blur", "--degradation.std=9"], "more than the image"),
        (["--method=pseudo_inverse", "--degradation=given_mask"], "GivenMask needs the option 'path'"),
        (["--method=pseudo_inverse", "--degradation=identity", "--mask=MASK"], "has size 5x4"),
        (["--method=pseudo_inverse", "--mask=MASK"], "has size 5x4"),
        (["--method=pseudo_inverse", "--mask=nowhere.png"], "is not a file"),
        (
            ["--method=pseudo_inverse", "--degradation=identity", "--sigma_255=-1"],
            "must be finite, at least 0 and at most 255",
        ),
        (["--method=pseudo_inverse", "--degradation=identity", "--sigma_255=much"], "invalid float value: 'much'"),
        (["--method=pseudo_inverse", "--degradation=identity", "--num_samples=0"], "--num_samples must be at least 1"),
        (["--method=pseudo_inverse", "--degradation=identity", "--device=abacus"], "--device 'abacus' cannot be used"),
        (
            ["--method=pseudo_inverse", "--degradation=identity", "--sedd=1"],
            "'--sedd=1' is not known (did you mean '--seed'?)",
        ),
        (["--method=pseudo_inverse", "--degradation=identity", "second.png"], "one picture at a time"),
        (["--method=dps", "--degradation=identity", "--prior=nowhere.ckpt"], "there is no prior at 'nowhere.ckpt'"),
        (
            ["--method=dps", "--degradation=identity", "--prior=PRIOR"],
            "restored in colour (3 channels), the prior knows grey pictures",
        ),
        (["--method=pseudo_inverse", "--degradation=grey"], "this one has 3: give a grey picture"),
        (["--method=sdedit", "--degradation=grey", "--prior=PRIOR"], "this one has 3: give a grey picture"),
    ],
)
def test_mistakes(cli, tmp_path, grey_prior, words, message):
    save(tmp_path / "in.png", pixels(8, 8, 3)), save(tmp_path / "mask.png", hole(4, 5))
    save(tmp_path / "grey.png", pixels(8, 8)), save(tmp_path / "nothing.png", np.zeros((8, 8), np.uint8))
    names = {
        "MASK": "mask.png",
        "PRIOR": grey_prior.name,
        "PICTURE": "in.png",
        "GREY": "grey.png",
        "NOTHING": "nothing.png",
    }
    for word, name in names.items():
        words = [w.replace(word, str(tmp_path / name)) for w in words]
    code, _, err = cli(tmp_path / "in.png", *words, "--output", tmp_path / "out")
    assert code == 2 and message in err and err.count("error: ") == 1, err
    assert not (tmp_path / "out").exists()


def test_the_picture_itself_is_not_written_over(cli, tmp_path):
    before = pixels(8, 8)
    save(tmp_path / "in.png", before)
    for words in (
        ["restored.png"],
        ["in.png", "--truth", tmp_path / "restored.png"],
        ["in.png", "--mask", tmp_path / "restored.png"],
    ):
        own = hole(8, 8) if "--mask" in words else before
        save(tmp_path / "restored.png", own)
        code, _, err = cli(tmp_path / words[0], *words[1:], "--method=total_variation", "--output", tmp_path)
        assert code == 2 and "would be written over" in err and np.array_equal(read(tmp_path / "restored.png"), own)


def test_an_earlier_restoration_is_replaced_as_a_whole(cli, tmp_path):
    """No curve of another method and no sample of another run is left beside the picture; what is not ours stays,
    whatever its name.
    """
    picture, out = save(tmp_path / "in.png", pixels(16, 16)), tmp_path / "out"
    out.mkdir()
    mine = {"restored_7.png", "curve.csv.png", "iterates.png", ".written.json"}
    save(out / "restored_7.png", pixels(4, 4))
    save(out / "curve.csv.png", pixels(4, 4))
    assert cli(picture, "--method=pseudo_inverse", "--output", out)[0] == 0
    save(out / "iterates.png", pixels(4, 4))
    dip = [picture, "--method=dip", "--method.iterations=4", "--device=cpu", "--output", out]
    code, _, err = cli(*dip, "--num_samples=2")
    assert code == 0, err
    ours = {"restored_0.png", "restored_1.png", "comparison.png", "curve.png", "curve.csv"}
    assert {p.name for p in out.iterdir()} == ours | mine
    assert cli(picture, "--method=pseudo_inverse", "--output", out)[0] == 0
    assert {p.name for p in out.iterdir()} == {"restored.png", "comparison.png"} | mine
    assert read(out / "iterates.png").shape == (4, 4)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_a_stop_writes_the_newest_estimate_and_says_so(stop, code, cli, tmp_path, monkeypatch):
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that a shell runs in the background ignore it
    keep = Iterates.__call__

    def stopped(self, step, total, estimate):
        keep(self, step, total, estimate)
        if step == 2:
            os.kill(os.getpid(), stop)

    monkeypatch.setattr(Iterates, "__call__", stopped)
    picture, out = save(tmp_path / "in.png", pixels(16, 16)), tmp_path / "out"
    try:
        found, paths, err = cli(picture, "--method=dip", "--method.iterations=40", "--device=cpu", "--output", out)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert found == code and str(out / "restored.png") in paths and read(out / "restored.png").shape == (16, 16)
    assert "this is the estimate of that moment" in err and "Traceback" not in err


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_stop_while_the_answer_is_written_waits_for_it(stop, code, cli, tmp_path, monkeypatch):
    """Before, the pictures after the first one, or all of them, were lost."""
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that a shell runs in the background ignore it

    def stopped(path, picture):
        os.kill(os.getpid(), stop)
        write_picture(path, picture)

    monkeypatch.setattr("inference.user_image.write_picture", stopped)
    picture, out = save(tmp_path / "in.png", pixels(16, 16)), tmp_path / "out"
    try:
        found, _, err = cli(picture, "--method=dip", "--method.iterations=4", "--device=cpu", "--output", out)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert found == code and "Traceback" not in err
    wanted = {"restored.png", "comparison.png", "iterates.png", "curve.png", "curve.csv", ".written.json"}
    assert {p.name for p in out.iterdir()} == wanted


def test_a_folder_that_another_restoration_writes(cli, tmp_path):
    (tmp_path / "out").mkdir()
    with held_folder(tmp_path / "out", ""):
        code, _, err = cli(
            save(tmp_path / "in.png", pixels(8, 8)), "--method=pseudo_inverse", "--output", tmp_path / "out"
        )
    assert code == 2 and "is being written by another restoration" in err and not list((tmp_path / "out").iterdir())


def test_output_that_cannot_be_written(cli, tmp_path):
    save(tmp_path / "in.png", pixels(8, 8))
    code, _, err = cli(
        tmp_path / "in.png",
        "--degradation=identity",
        "--method=pseudo_inverse",
        "--output",
        tmp_path / "in.png" / "out",
    )
    assert code == 2 and "--output" in err and "cannot be written" in err


def test_a_restoration_that_is_not_finite(cli, tmp_path, grey_prior):
    save(tmp_path / "in.png", pixels(8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, _, err = cli(
            tmp_path / "in.png",
            "--degradation=identity",
            "--method=dps",
            "--prior",
            grey_prior,
            "--method.steps=4",
            "--method.scale=1e38",
            "--method.clip=false",
            "--output",
            tmp_path / "out",
        )
    assert code == 2 and "not finite" in err, err
    assert not list((tmp_path / "out").iterdir())


def test_a_warning_is_a_line_without_a_place_in_the_code(cli, tmp_path, monkeypatch):
    restored = PseudoInverse.restore

    def warns(self, *args, **kwargs):
        warnings.warn("it is dark", stacklevel=1)
        return restored(self, *args, **kwargs)

    monkeypatch.setattr(PseudoInverse, "restore", warns)
    save(tmp_path / "in.png", pixels(8, 8))
    method = ("--degradation=identity", "--method=pseudo_inverse")
    code, _, err = cli(tmp_path / "in.png", *method, "--output", tmp_path / "out")
    assert code == 0 and "warning: it is dark\n" in err and "UserWarning" not in err


@pytest.mark.slow
def test_as_a_command(tmp_path):
    """In a process of its own, from another folder, without a word of Python in the answer."""
    save(tmp_path / "in.png", pixels(8, 8))
    words = [
        PROJECT / "restore.py",
        "in.png",
        "--degradation",
        "identity",
        "--method",
        "pseudo_inverse",
        "--output",
        "out",
    ]
    result = call_process(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["out/restored.png", "out/comparison.png"]
    one_sentence(call_process(*words, "--method.scale=1", cwd=tmp_path), "has no option 'scale'")


def test_a_cold_restorer_knows_what_it_undoes_and_estimates_how_much(cli, tmp_path):
    """No --degradation; the severity is said, given or estimated; the picture comes back through cold_sample."""
    torch.manual_seed(0)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[], groups=4)
    restorer = ColdRestorer(network=network, family=GaussianBlur(steps=6, taps=3, std=1.0), data_shape=(1, 8, 8)).eval()
    prior = tmp_path / "cold.safetensors"
    write_safetensors(prior, network, describe_cold_restorer(restorer, data="Digits"), dtype=torch.float32)
    picture = save(tmp_path / "in.png", pixels(8, 8))
    code, _, err = cli(
        picture, "--method", "cold", "--prior", prior, "--output", tmp_path / "a", "--method.severity", 4
    )
    assert code == 0 and "severity 4 of 6 (given)" in err
    expected = cold_sample(restorer, to_float(torch.from_numpy(pixels(8, 8))[None, None]), [4, 3, 2, 1, 0], {})
    np.testing.assert_allclose(
        read(tmp_path / "a" / "restored.png"), ((expected.clamp(-1, 1) + 1) * 127.5).round()[0, 0].numpy(), atol=1
    )
    code, _, err = cli(picture, "--method", "cold", "--prior", prior, "--output", tmp_path / "b")
    assert code == 0 and "of 6 (estimated; another one: --method.severity N)" in err
    code, _, err = cli(
        picture, "--method", "dps", "--degradation", "identity", "--prior", prior, "--output", tmp_path / "c"
    )
    assert code == 2 and "DPS needs a denoiser" in err and "cold restorer" in err
    code, _, err = cli(
        picture,
        "--method",
        "cold",
        "--prior",
        write_tiny_prior(tmp_path / "hot.safetensors"),
        "--output",
        tmp_path / "c",
    )
    assert code == 2 and "is a denoiser, and a cold restorer is needed" in err


def test_a_reader_that_goes_away_is_no_error():
    result = subprocess.run(
        f"{sys.executable} restore.py --list_degradations | head -1",
        shell=True,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and result.stderr == "" and result.stdout == "alternate_lines\n"
