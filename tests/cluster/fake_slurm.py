"""sbatch, srun and scontrol as files to put first in PATH: enough of them to run configs/cluster/slurm.sh for real,
with processes of this machine.
"""

from pathlib import Path

SBATCH = r"""#!/bin/bash
# Reads the #SBATCH lines, lets the command line overrule them, runs a copy of the script as SLURM does, here and now.
options=()
while [[ "$1" == --* ]]; do options+=("$1"); shift; done
script="$1"; shift
value() { # the newest value of an option
    { sed -n "s/^#SBATCH --$1=//p" "$script"; printf '%s\n' "${options[@]}" | sed -n "s/^--$1=//p"; } | tail -n 1
}
export SLURM_JOB_ID="${FAKE_JOB_ID:?}" SLURM_JOB_NAME="$(value job-name)" SLURM_SUBMIT_DIR="$PWD"
export SLURM_NODELIST=localhost SLURM_PROCID=0 SLURM_LOCALID=0
export SLURM_NNODES="$(value nodes)" SLURM_NTASKS_PER_NODE="$(value ntasks-per-node)"
export SLURM_CPUS_PER_TASK="$(value cpus-per-task)"
export SLURM_NTASKS=$((SLURM_NNODES * SLURM_NTASKS_PER_NODE))
cp "$script" "$FAKE_SLURM/slurm_script"
cd / && exec bash "$FAKE_SLURM/slurm_script" "$@"
"""

SRUN = r"""#!/bin/bash
# One process per task; ends with the highest code, as srun does.
while [[ "$1" == --* ]]; do shift; done
pids=()
for ((k = 0; k < SLURM_NTASKS; k++)); do
    SLURM_PROCID=$k SLURM_LOCALID=$((k % SLURM_NTASKS_PER_NODE)) SLURM_NODEID=$((k / SLURM_NTASKS_PER_NODE)) "$@" &
    pids+=($!)
done
echo "${pids[@]}" > "$FAKE_SLURM/tasks"
highest=0
for pid in "${pids[@]}"; do wait "$pid"; code=$?; ((code > highest)) && highest=$code; done
exit $highest
"""

SCONTROL = r"""#!/bin/bash
echo "$@" >> "$FAKE_SLURM/told"
"""


def install(folder: Path, job: int) -> dict[str, str]:
    """Write the three programs into `folder`; what the environment needs to use them."""
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"FAKE_SLURM": str(folder), "FAKE_JOB_ID": str(job)}


def requeued(folder: Path) -> list[str]:
    """What scontrol was told."""
    path = folder / "told"
    return path.read_text().splitlines() if path.exists() else []
