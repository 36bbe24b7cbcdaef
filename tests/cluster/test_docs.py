"""Every command of docs/cluster.md names files that exist and options that train.py takes."""

import re
import shlex
import sys
from pathlib import Path

from helpers import ROOT

DOC = ROOT / "docs" / "cluster.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", DOC.read_text(), re.S)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()]


def test_commands_parse(monkeypatch):
    from training.cli import TrainCLI

    class ParserOnly(TrainCLI):
        def instantiate_classes(self) -> None: ...
        def before_instantiate_classes(self) -> None: ...
        def _run_subcommand(self, subcommand: str) -> None: ...
        def _set_seed(self) -> None: ...

    monkeypatch.chdir(ROOT)
    trained = 0
    for words in commands():
        starts = [
            k
            for k, word in enumerate(words)
            if word == "train.py" or (word.startswith("configs/cluster/") and word.endswith(".sh"))
        ]
        if not starts:
            continue
        assert Path(words[starts[0]]).is_file(), words
        options = words[starts[0] + 1 :]
        options = options if options[0] == "fit" else ["fit", *options]
        monkeypatch.setattr(sys, "argv", ["train.py", *options])
        found = ParserOnly().config["fit"]
        assert found.run == "runs/cifar10" or "--find_batch" in words, words  # which trains nothing
        assert found.prepare is ("--prepare" in words)
        trained += 1
    assert trained >= 6
    for name in re.findall(r"\]\((\S+?)\)", DOC.read_text()):
        assert (DOC.parent / name.partition("#")[0]).exists(), name


def test_slurm_options_of_the_examples_are_those_of_the_script():
    script = (ROOT / "configs" / "cluster" / "slurm.sh").read_text()
    for words in commands():
        if words[0] == "sbatch":
            for word in words[1 : words.index("configs/cluster/slurm.sh")]:
                assert f"#SBATCH {word.split('=')[0]}=" in script, word
