"""A process that sleeps in a step, is stopped or is killed ends the training on both, with its name."""

import json
import os
import re
import subprocess
import sys

import pytest
from helpers import ROOT, environment

from callbacks.lost_ranks import LostRanks
from common.errors import UserError

PATIENCE = 12.0  # seconds

# What is imported is imported once: each pair of processes is forked.
SCRIPT = """
import common.late_torchmetrics  # noqa: F401
import errno, json, os, signal, socket, sys, time
from pathlib import Path
import lightning.pytorch as pl
from helpers import tiny_digits, tiny_module, tiny_trainer
from callbacks.ema import EMA
from callbacks.lost_ranks import LostRanks
from callbacks.preemption import Preemption
from common.errors import UserError, run_cli

class Goes(pl.Callback):
    def __init__(self, how, folder):
        self.how, self.folder = how, folder
    def on_fit_start(self, trainer, *_):
        if self.how == "refuses" and trainer.global_rank == 0:
            raise UserError("refused before the first step")
    def on_train_end(self, trainer, *_):
        if self.how == "end" and trainer.global_rank == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        trainer.strategy.barrier()
    def on_before_backward(self, trainer, *_):
        if self.how in ("refuses", "end"):
            return
        if self.how == "full" and trainer.global_step == 4 and trainer.global_rank == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.how != "full" and trainer.global_step == 4 and trainer.global_rank == 1:
            if self.how == "fails":
                raise UserError("the pictures of the second process are gone")
            (self.folder / "when").write_text(str(time.time()))
            if self.how == "sleeps":
                time.sleep(600)
            os.kill(os.getpid(), {"stopped": signal.SIGSTOP, "killed": signal.SIGKILL}[self.how])

def child(how, rank, port, folder):
    os.environ.update(LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    out = os.open(folder / f"{rank}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    callbacks = [EMA(), Goes(how, folder), LostRanks(patience_s=float(sys.argv[2])), Preemption()]
    options = dict(max_steps=6 if how == "end" else 40, limit_val_batches=0, devices=2, strategy="ddp")
    trainer = tiny_trainer(folder, *callbacks, **options)
    run_cli(lambda: trainer.fit(tiny_module(), datamodule=tiny_digits()))

if __name__ == "__main__":
    children, found = {}, {}
    for how in sys.argv[3:]:
        folder = Path(sys.argv[1]) / how
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(2):
            pid = os.fork()
            if not pid:
                try:
                    child(how, rank, port, folder)
                finally:
                    os._exit(99)
            children[pid] = (how, rank)
    for _ in range(len(children)):
        pid, status = os.wait()
        how, rank = children[pid]
        when = Path(sys.argv[1]) / how / "when"
        late = time.time() - float(when.read_text()) if when.exists() else None
        found[f"{how} {rank}"] = (os.waitstatus_to_exitcode(status), late)
    print(json.dumps(found))
"""


def ended(folder, *hows):
    """(exit code, seconds since it went wrong) of both processes of each, and what they said; by "HOW RANK"."""
    script = folder / "run.py"
    script.write_text(SCRIPT)
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    patience = os.environ.get("PATIENCE", str(PATIENCE))
    command = [sys.executable, str(script), str(folder), patience, *hows]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    return found, {key: (folder / key.split()[0] / f"{key[-1]}.txt").read_text() for key in found}


@pytest.mark.slow
def test_a_process_with_an_error_of_its_own_is_named_by_the_other(tmp_path):
    """Each prints one sentence, and no trace: in a step, at the end, and before there is anybody who watches."""
    own = {
        "fails": (1, "the pictures of the second process are gone", "rank 1 ("),
        "full": (0, "the disk is full", "rank 0 ("),
        "end": (0, "the disk is full", "rank 0 ("),
        "refuses": (0, "refused before the first step", "another process has ended, see its message, or cannot be"),
    }
    found, said = ended(tmp_path, *own)
    for how, (rank, its_own, others) in own.items():
        both = said[f"{how} 0"] + said[f"{how} 1"]
        assert "Traceback" not in both, (how, both[-3000:])
        assert [found[f"{how} {r}"][0] for r in (rank, 1 - rank)] == [2, 1], (how, found, both[-3000:])
        for r, words in ((rank, its_own), (1 - rank, others)):
            lines = [line for line in said[f"{how} {r}"].splitlines() if line.startswith("error: ")]
            assert len(lines) == 1 and words in lines[0], (how, r, lines)
            if r != rank and how != "refuses":
                assert "ended with an error of its own, see its message" in lines[0], lines


@pytest.mark.slow
def test_all_end_with_its_name(tmp_path):
    found, said = ended(tmp_path, "sleeps", "stopped", "killed")
    for how, words in (
        ("sleeps", r"has been in the (for|back)ward pass of step 5 for \d+ s"),
        ("stopped", r"has not been heard of for \d+ s"),
        ("killed", r"has ended \(killed|has not been heard of for \d+ s"),  # whatever is noticed first
    ):
        code, late = found[f"{how} 0"]
        assert code == 1, (how, code, said[f"{how} 0"][-2000:])
        lines = [line for line in said[f"{how} 0"].splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "rank 1 (" in lines[0] and re.search(words, lines[0]), (
            how,
            said[f"{how} 0"][-2000:],
        )
        assert "Traceback" not in said[f"{how} 0"]
        assert found[f"{how} 1"][0] != 0
        assert late < 60, (how, late)
    assert found["stopped 1"][0] == found["killed 1"][0] == -9
    print(found)


def test_a_patience_that_is_not_positive_is_refused():
    with pytest.raises(UserError, match="patience_s must be positive"):
        LostRanks(patience_s=0)
