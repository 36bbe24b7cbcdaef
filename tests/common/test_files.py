import errno

import pytest
import torch
from full_disk import FullDisk

import common.files
from common.errors import UserError, disk_message
from common.files import held_folder, remove_parts, require_writable_folder, sha256_of, write_atomically


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "x.bin"
    write_atomically(path, b"old")

    def half(file):
        file.write(b"ne")
        raise RuntimeError("the process dies here")

    with pytest.raises(RuntimeError):
        write_atomically(path, half)
    assert path.read_bytes() == b"old" and [p.name for p in path.parent.iterdir()] == ["x.bin"]
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    assert require_writable_folder(tmp_path / "new", "output").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"output .*file/x.* cannot be written"):
        require_writable_folder(tmp_path / "file" / "x", "output")


def test_a_folder_is_held_by_one(tmp_path):
    with held_folder(tmp_path, "busy"), pytest.raises(UserError, match="busy"), held_folder(tmp_path, "busy"):
        raise AssertionError
    with pytest.raises(KeyError), held_folder(tmp_path, "busy"):  # let go when the first has ended
        raise KeyError
    with held_folder(tmp_path, "busy"):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [0, 1000, 70_000, 300_000])
def test_a_full_disk_is_its_own_error_whatever_the_writer_makes_of_it(room, tmp_path, monkeypatch):
    """torch's writer says "PytorchStreamWriter failed writing file" or "unexpected pos", with a trace of C++."""
    path = tmp_path / "last.ckpt"
    monkeypatch.setattr(common.files, "open", lambda p, mode: FullDisk(p, mode, room=room), raising=False)
    content = {f"{k}": torch.zeros(20_000) for k in range(5)}
    with pytest.raises(OSError) as error:
        write_atomically(path, lambda file: torch.save(content, file))
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(path)
    assert (disk_message(error.value) or "").startswith(f"cannot access '{path}', the disk is full: free some space")
    assert not list(tmp_path.iterdir())
    if room:
        write_atomically(path, "small")


def test_what_a_file_was_before_can_be_kept(tmp_path, monkeypatch):
    path, keep = tmp_path / "last", tmp_path / "previous"
    write_atomically(path, "1", keep=keep)
    assert not keep.exists()
    write_atomically(path, "2", keep=keep)
    assert (path.read_text(), keep.read_text()) == ("2", "1")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    write_atomically(path, "3", keep=keep)
    assert (path.read_text(), keep.read_text()) == ("3", "2") and len(list(tmp_path.iterdir())) == 2


def test_parts_of_killed_writers_are_removed(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/.x.png.77.part", ".rows.csv.8.part", ".mine.part", "x.8.part"):
        (tmp_path / name).write_text("")
    remove_parts(tmp_path, below=False)
    assert {p.name for p in tmp_path.iterdir()} == {"a", ".mine.part", "x.8.part"} and any((tmp_path / "a").iterdir())
    remove_parts(tmp_path)
    assert not any((tmp_path / "a").iterdir())
