"""tests/cluster/drills.py: every job script has a drill, and the table says what is wrong."""

from cluster.drill_events import CLOSE, DRILLS, ONE, TWO
from cluster.drills import Row, markdown
from helpers import ROOT

#: A job of one process, by test_slurm.py.
ELSEWHERE = {"python.sh"}


def test_every_job_script_is_drilled():
    scripts = {script for _, script, _ in DRILLS.values()}
    assert {path.name for path in (ROOT / "configs/cluster").glob("*.sh")} - ELSEWHERE <= scripts
    assert "sweep.py slurm" in scripts, "an array of ablations"
    assert {twin for _, _, twin in DRILLS.values()} == {ONE, TWO, CLOSE, "sweep", "evaluate"}


def test_the_table_counts_what_ended_well():
    rows = [
        Row("time limit", "slurm.sh", "2", "COMPLETED 0:0", "weights, log", "9", "ok"),
        Row("node down", "slurm.sh", "1", "FAILED 2:0", "", "9", "FAILED 2:0"),
    ]
    text = markdown(rows)
    assert text.startswith("2 drills, 1 ended as they should.")
    assert "| node down | slurm.sh | 1 | FAILED 2:0 |  | FAILED 2:0 |" in text
