#!/bin/bash
# One process of any program of this project, queued again when it is stopped. From the repository:
#   sbatch configs/cluster/python.sh evaluate.py --config configs/evaluate/generation_mnist.yaml
# Other sizes: sbatch --time=02:00:00 --cpus-per-task=4 configs/cluster/python.sh ...   See docs/cluster.md.
#SBATCH --job-name=palimpsest-python
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -u
cd "${SLURM_SUBMIT_DIR:-.}" || exit 1
python="${PYTHON:-.venv/bin/python}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}" PYTHONUNBUFFERED=1

srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$python" "$@"
code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
