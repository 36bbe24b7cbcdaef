"""A SLURM job array that runs the combinations of a sweep, one a task."""

import shlex

from sweeps.expand import Sweep
from sweeps.state import Places


def array_script(
    sweep: Sweep,
    places: Places,
    *,
    max_parallel: int | None,
    time: str,
    gpus: int,
    cpus: int,
    memory: str,
    partition: str | None,
) -> str:
    """Task k runs combination k of the list; the numbers are those of this version of the file, which the tasks check.

    A task that reaches its time limit saves, leaves with 75 and is queued again, where it goes on in its run folder; as
    configs/cluster/slurm.sh.
    """
    limit = f"%{max_parallel}" if max_parallel else ""
    logs = places.output / ".sweep"
    options = {
        "job-name": sweep.name,
        "array": f"0-{len(sweep.combinations) - 1}{limit}",
        "ntasks": 1,
        "cpus-per-task": cpus,
        "mem": memory,
        "time": time,
        **({"gpus-per-task": gpus} if gpus else {}),
        **({"partition": partition} if partition else {}),
        "signal": "USR1@300",
        "open-mode": "append",
        "output": f"{logs}/slurm-%A_%a.out",
    }
    run = shlex.join(
        [
            "sweep.py",
            "run",
            str(sweep.path),
            "--fingerprint",
            sweep.fingerprint,
            "--output",
            str(places.output),
            "--threads",
            str(cpus),
        ]
    )
    return "\n".join(
        [
            "#!/bin/bash",
            (
                f"# {len(sweep.combinations)} runs of {sweep.path}, one a task. Submit from the repository: sbatch"
                " THIS_FILE"
            ),
            *(f"#SBATCH --{name}={shlex.quote(str(value))}" for name, value in options.items()),
            "#SBATCH --requeue",
            "set -u",
            'cd "${SLURM_SUBMIT_DIR:-.}" || exit 1',
            'python="${PYTHON:-.venv/bin/python}"',
            (
                "# 300 s before the time limit SLURM sends USR1: the run saves between two steps, and 75 says that it"
                " can go on."
            ),
            # since 22.05 srun does not take the number of cores from sbatch: the task would have one
            f'srun --cpus-per-task={cpus} "$python" {run} --number "$SLURM_ARRAY_TASK_ID"',
            "code=$?",
            'if [ "$code" -eq 75 ]; then',
            '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
            "fi",
            'exit "$code"',
            "",
        ]
    )
