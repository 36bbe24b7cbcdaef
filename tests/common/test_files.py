import pytest

from common.errors import UserError
from common.files import held_folder, require_writable_folder, sha256_of, write_atomically


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
