"""Weight files of others: where they are looked for, and what a download is checked for."""

import hashlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UserError
from common.weight_files import WeightFile, hub_folder


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A published file (by a file: address, which needs no network), and empty places."""
    (tmp_path / "published").write_bytes(b"random weights")
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    digits = hashlib.sha256(b"random weights").hexdigest()[:8]
    return tmp_path, WeightFile("net.pth", "the network", (tmp_path / "published").as_uri(), 3, digits)


def test_the_places_in_their_order(world, monkeypatch):
    folder, file = world
    places = [folder / "weights/net.pth", folder / "torch/hub/checkpoints/net.pth", folder / "temporary/net.pth"]
    assert file.places() == places and file.find() is None
    for place in reversed(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
        assert file.find() == place
    assert file.find(str(folder / "published")) == folder / "published" and file.find("no/where") is None
    monkeypatch.delenv("WEIGHTS_DIR")
    assert file.find() == places[1]
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert hub_folder() == Path("cache/torch/hub/checkpoints")


def test_what_is_missing_is_said_in_one_sentence(world):
    folder, file = world
    words = file.absence()
    assert words.startswith("the network is not there (looked for") and "\n" not in words and "(3 MB)" in words
    assert str(folder / "weights" / "net.pth") in words and file.url in words and "--prepare" in words
    assert "'my.pth'" in file.absence("my.pth") and "hub" not in file.absence("my.pth")


def test_a_download_lies_in_the_first_place_and_is_checked(world, monkeypatch):
    folder, file = world
    assert file.fetch() == folder / "weights/net.pth" == file.find()
    assert file.find().read_bytes() == b"random weights" and file.is_published(file.find())
    other = replace(file, name="other.pth", sha256="00000000")
    with pytest.raises(UserError, match=r"is not 'other.pth': its SHA-256 does not begin with 00000000"):
        other.fetch()
    assert other.find() is None and [p.name for p in (folder / "weights").iterdir()] == ["net.pth"]
    assert replace(other, sha256="").fetch().name == "other.pth", "where no hash was published any file is taken"
    monkeypatch.delenv("WEIGHTS_DIR")
    assert file.fetch() == folder / "torch/hub/checkpoints/net.pth"


def test_without_a_network_it_is_one_sentence(world, monkeypatch):
    folder, file = world
    before = socket.getdefaulttimeout()
    for broken in (replace(file, url=(folder / "gone").as_uri()), replace(file, url="http://127.0.0.1:9/net.pth")):
        with pytest.raises(UserError, match=r"'net.pth' \(the network\) could not be fetched from") as caught:
            broken.fetch()
        assert "\n" not in str(caught.value) and file.find() is None
    assert socket.getdefaulttimeout() == before
    (folder / "file").write_bytes(b"")
    monkeypatch.setenv("WEIGHTS_DIR", str(folder / "file" / "inside"))
    with pytest.raises(UserError, match="WEIGHTS_DIR"):
        file.fetch()
