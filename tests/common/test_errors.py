import errno
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError, nearest, run_cli
from common.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]


def ended(main, capsys) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as end:
        run_cli(main)
    return end.value.code, capsys.readouterr().err


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    def main():
        raise UserError("the mask\n'a.png' is too small")

    assert ended(main, capsys) == (2, "error: the mask 'a.png' is too small\n")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "has failed"),
        (errno.ESTALE, "file server"),  # of a cluster
        (errno.EMFILE, "ulimit -n"),
        (errno.EEXIST, "choose another path"),
    ],
)
def test_the_disk_says_what_to_do(number, words, capsys):
    def main():
        raise OSError(number, "x", "results/rows.csv")

    code, text = ended(main, capsys)
    assert code == 2 and words in text and "results/rows.csv" in text and text.count("\n") == 1


def test_a_file_in_the_way_of_a_folder(tmp_path, capsys):
    """Whatever depth the file lies at, and whoever makes the folders."""
    (tmp_path / "file").touch()

    for beyond in ("file/x.npz", "file/folder/x.npz"):
        code, text = ended(lambda beyond=beyond: write_atomically(tmp_path / beyond, "x"), capsys)
        assert code == 2 and "choose another path" in text and str(tmp_path / "file") in text and text.count("\n") == 1


def test_a_bug_keeps_its_trace():
    def main():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        run_cli(main)


def test_success_and_interruption(capsys):
    assert ended(lambda: None, capsys)[0] == 0

    def main():
        raise KeyboardInterrupt

    assert ended(main, capsys)[0] == 130


def test_nearest():
    assert nearest("learning_rte", ["learning_rate", "seed"]) == " (did you mean 'learning_rate'?)"
    assert nearest("zzz", ["learning_rate"]) == ""


DISTRIBUTED = """
import atexit, sys, torch
from common.errors import UserError, run_cli

def main():
    torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
    atexit.register(lambda: print("registered"))
    raise UserError("the loss is nan")

run_cli(main)
"""


def test_one_of_several_processes_leaves_with_its_own_exit_code(tmp_path):
    """Without Python's teardown, in which open threads of torch.distributed now and then call abort(); what was
    registered still runs.
    """
    result = subprocess.run(
        [sys.executable, "-c", DISTRIBUTED, str(tmp_path / "store")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stdout) == (2, "registered\n") and result.stderr.endswith(
        "error: the loss is nan\n"
    ), result.stderr
