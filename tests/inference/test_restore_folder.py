"""A folder of pictures: what is finished stays, what fails is named, the prior is read once, the table says it all."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import inference.restore_folder as restore_folder_file
from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from common.errors import UserError
from diffusion.edm import EDMDenoiser, LogNormal
from inference.degradation_options import degradation_options
from inference.request import Request
from inference.restore_folder import RECORD, SUMMARY, restore_folder
from networks.denoising_unet import DenoisingUNet


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape)


def table(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / SUMMARY) as file:
        return {row["picture"]: row for row in csv.DictReader(file)}


def degraded(mask: Path | None):
    return degradation_options(None, {}, mask=mask)


def request(tmp_path: Path, **more) -> Request:
    given = {"picture": tmp_path / "in", "output": tmp_path / "out", "prior": tmp_path / "none", "sigma_255": 3.0}
    return Request(**{**given, "method": "pseudo_inverse", "degradation": "identity", **more})


@pytest.fixture
def folder(tmp_path) -> Path:
    save(tmp_path / "in/a.png", pixels(8, 9, 3)), save(tmp_path / "in/a.bmp", pixels(8, 8))
    save(tmp_path / "in/sub/b2.png", pixels(9, 8)), save(tmp_path / "in/sub/b10.png", pixels(8, 8))
    (tmp_path / "in/notes.txt").write_text("no picture")
    return tmp_path


def test_all_of_them_and_again(folder, capsys, monkeypatch):
    """In natural order, names that differ in their ending alone apart; the same command again restores nothing; a
    changed picture or option is restored again.
    """
    lines = restore_folder(request(folder), degraded)
    rows = table(folder / "out")
    assert list(rows) == ["a.bmp", "a.png", "sub/b2.png", "sub/b10.png"]
    assert {row["status"] for row in rows.values()} == {"restored"} and lines[-1] == str(folder / "out" / SUMMARY)
    assert "passed over: 1 .txt" in lines[0] and "4 pictures: 4 restored" in lines[1]
    for name in ("a.png", "a.bmp", "sub/b2", "sub/b10"):
        assert (folder / "out" / name / "restored.png").is_file() and (folder / "out" / name / RECORD).is_file()
    assert rows["a.png"]["width"] == "9" and rows["a.png"]["channels"] == "3" and rows["a.png"]["sigma_255"] == "3.0"
    assert "[2/4] a.png: restored, 9x8, noise 3.0 of 255" in capsys.readouterr().err

    made: list[str] = []
    whole = restore_folder_file.restore_picture
    monkeypatch.setattr(
        restore_folder_file, "restore_picture", lambda r, tools: (made.append(r.picture.name), whole(r, tools))[1]
    )
    assert "4 pictures: 4 as before" in restore_folder(request(folder), degraded)[1] and not made
    save(folder / "in/a.png", pixels(8, 9, 3, seed=1))
    (folder / "out/sub/b2/restored.png").unlink()
    (folder / "out/sub/b10" / RECORD).write_text("{")
    restore_folder(request(folder), degraded)
    assert made == ["a.png", "b2.png", "b10.png"]
    made.clear()
    restore_folder(request(folder, sigma_255=4.0), degraded)
    assert len(made) == 4


def test_what_fails_is_named_and_the_others_go_on(folder):
    (folder / "in/a.bmp").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1 of 4 pictures were not restored: a\.bmp; .*summary\.csv"):
        restore_folder(request(folder), degraded)
    rows = table(folder / "out")
    assert rows["a.bmp"]["status"] == "failed" and "cannot be read" in rows["a.bmp"]["reason"]
    assert [rows[n]["status"] for n in ("a.png", "sub/b2.png", "sub/b10.png")] == ["restored"] * 3
    assert not (folder / "out/a.bmp" / RECORD).exists()


def test_masks_and_truths_by_name(folder):
    """From folders with the same names, whatever the ending; one that is missing is a failure of its picture."""
    (folder / "in/a.bmp").unlink()
    for name, shape in {"a.tif": (8, 9), "sub/b2.png": (9, 8), "sub/b10.png": (8, 8)}.items():
        mask = np.full(shape, 255)
        mask[2:4, 2:4] = 0
        save(folder / "masks" / name, mask)
        picture = (folder / "in" / name).with_suffix(".png")
        save(folder / "truths" / name, np.asarray(Image.open(picture)))
    asked = request(folder, truth=folder / "truths")
    lines = restore_folder(asked, degraded, mask=folder / "masks")
    assert all(10 < float(row["psnr"]) < 40 for row in table(folder / "out").values()) and "mean PSNR" in lines[-2]
    (folder / "masks/sub/b2.png").unlink()
    with pytest.raises(UserError, match="1 of 3"):
        restore_folder(asked, degraded, mask=folder / "masks")
    rows = table(folder / "out")
    assert "--mask" in rows["sub/b2.png"]["reason"] and rows["a.png"]["status"] == "as before"


@pytest.mark.parametrize(("code", "raised"), [(130, KeyboardInterrupt), (75, SystemExit)])
def test_an_interruption_is_not_finished(code, raised, folder, monkeypatch):
    """Ctrl-C ends the folder after the picture at hand, which is restored again by the same command."""
    whole = restore_folder_file.restore_picture

    def stopped(own, tools):
        outcome = whole(own, tools)
        return outcome if own.picture.name != "a.png" else type(outcome)(**{**vars(outcome), "interrupted": code})

    monkeypatch.setattr(restore_folder_file, "restore_picture", stopped)
    with pytest.raises(raised):
        restore_folder(request(folder), degraded)
    rows = table(folder / "out")
    assert list(rows) == ["a.bmp", "a.png"] and rows["a.png"]["status"] == "interrupted"
    monkeypatch.setattr(restore_folder_file, "restore_picture", whole)
    assert "3 restored" in restore_folder(request(folder), degraded)[1]


def test_what_killed_writers_left_goes(folder):
    left = [folder / "out" / name for name in (f".{SUMMARY}.7.part", f"sub/b2/.{RECORD}.8.part", "mine.part")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    restore_folder(request(folder), degraded)
    assert [path.exists() for path in left] == [False, False, True]


def test_what_is_refused_before_anything(folder, tmp_path):
    with pytest.raises(UserError, match="lies in the folder that is restored"):
        restore_folder(request(folder, output=folder / "in/out"), degraded)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture in the folder"):
        restore_folder(request(folder, picture=tmp_path / "empty"), degraded)
    with pytest.raises(UserError, match="'dipp' does not exist"):
        restore_folder(request(folder, method="dipp"), degraded)
    assert not (folder / "out").exists()


def colour_denoiser(path: Path) -> Path:
    """A random network of colour pictures of any size, as a released prior."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DenoisingUNet(in_channels=3, channels=4, multipliers=[1, 2], blocks=1, time_channels=4)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.02 * torch.randn_like(p))
    levels = LogNormal(sigma_min=0.01, sigma_max=4.0)
    denoiser = EDMDenoiser(network=network, levels=levels, sigma_data=0.5, data_shape=(3, 16, 16))
    write_safetensors(path, network, describe_prior(denoiser, data="photographs"), dtype=torch.float32)
    return path


def test_one_prior_for_grey_and_colour_of_any_size(folder, monkeypatch, capsys):
    """Read once; a grey picture goes through the colour prior and comes back grey, and that is said."""
    read = []
    tools_for = restore_folder_file.tools_for
    monkeypatch.setattr(restore_folder_file, "tools_for", lambda r: (read.append(1), tools_for(r))[1])
    prior = colour_denoiser(folder / "prior.safetensors")
    restore_folder(request(folder, method="plug_and_play", prior=prior, sigma_255=20.0), degraded)
    rows = table(folder / "out")
    assert read == [1] and {row["nfe"] for row in rows.values()} == {"1"}
    assert [row["channels"] for row in rows.values()] == ["1", "3", "1", "1"]
    assert Image.open(folder / "out/sub/b2/restored.png").mode == "L"
    assert "shown to it in three equal channels" in capsys.readouterr().err
    assert "prior" not in json.loads((folder / "out/a.png" / RECORD).read_text())["row"]
