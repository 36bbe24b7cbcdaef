"""The first words of train.py: what is answered before Lightning is imported, and what is left to the parser."""

import subprocess
import sys

import pytest
from helpers import ROOT, call_process, environment, one_sentence

from common.errors import UserError
from training.first_words import SUBCOMMANDS, answered


def test_help_names_every_subcommand(capsys):
    assert answered(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in SUBCOMMANDS) and "--config FILE" in text


def test_the_subcommands_are_those_of_the_parser():
    from training.cli import TrainCLI

    assert list(SUBCOMMANDS) == list(TrainCLI.subcommands())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a subcommand is missing"),
        (["fti"], "did you mean 'fit'"),
        (["fit", "--config", "configs/train/ddmp_mnist.yaml"], "did you mean 'configs/train/ddpm_mnist.yaml'"),
        (["fit", "--config=nowhere/x.yml"], "'nowhere/x.yml' does not exist"),
        (["predict", "-c", "nowhere/x.yaml"], "'nowhere/x.yaml' does not exist"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(UserError, match=message):
        answered(words)


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--config", "configs/demo/train.yaml"],
        ["fit", "--help"],
        ["fit", "--config", "{seed_everything: 1}"],
        ["--print_config"],
    ],
)
def test_the_rest_is_the_parsers(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert not answered(words)


@pytest.mark.parametrize("script", ["train.py", "evaluate.py", "restore.py", "sweep.py"])
def test_help_and_mistakes_import_nothing_heavy(script):
    """In a process of its own, where torch cannot be imported at all."""
    code = "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], "
    code += "run_name='__main__')"
    for word, returncode in (("--help", 0), ("--nonsense", 2)):
        if script == "train.py" and word == "--nonsense":
            word = "nonsense"
        result = subprocess.run(
            [sys.executable, "-c", code, script, word], cwd=ROOT, env=environment(), capture_output=True, text=True
        )
        assert result.returncode == returncode, result.stderr[-2000:]
        assert ("usage" in result.stdout) == (returncode == 0) and "Traceback" not in result.stderr


def test_a_mistake_as_a_command():
    one_sentence(call_process("train.py", "fti"), "did you mean 'fit'")
