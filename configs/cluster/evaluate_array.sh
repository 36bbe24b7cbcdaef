#!/bin/bash
# Evaluates as an array of jobs, each its share of the batches, and queues a job again when it is stopped; the last one
# that ends joins them and writes table and report. From the repository:
#   sbatch configs/cluster/evaluate_array.sh --config configs/evaluate/mnist.yaml --output results/mnist
# Other sizes: sbatch --array=0-31 --time=02:00:00 configs/cluster/evaluate_array.sh ...   See docs/cluster.md.
#SBATCH --job-name=palimpsest-evaluate
#SBATCH --array=0-3
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out
set -u
cd "${SLURM_SUBMIT_DIR:-.}" || exit 1
python="${PYTHON:-.venv/bin/python}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}" PYTHONUNBUFFERED=1

# Shares are counted from 0, whatever the array counts from.
shard=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$python" evaluate.py "$@" --shard "$shard/$SLURM_ARRAY_TASK_COUNT"
code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
