import errno

import pytest

from common.errors import UserError, nearest, run_cli


def ended(main, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        run_cli(main)
    return end.value.code, capsys.readouterr().err


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    def main():
        raise UserError("the mask\n'a.png' is too small")

    assert ended(main, capsys) == (2, "error: the mask 'a.png' is too small\n")


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")])
def test_the_disk_says_what_to_do(number, words, capsys):
    def main():
        raise OSError(number, "x", "results/rows.csv")

    code, text = ended(main, capsys)
    assert code == 2 and words in text and "results/rows.csv" in text and text.count("\n") == 1


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
