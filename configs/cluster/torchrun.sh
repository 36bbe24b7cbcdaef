#!/bin/bash
# Trains with torchrun on any cluster: once on every node, with the same options and a run folder that all nodes see. From the repository:
#   GPUS=8 configs/cluster/torchrun.sh --config configs/train/ddpm_cifar10.yaml --run runs/cifar10
#   GPUS=8 NODES=4 HEAD=node0:29500 configs/cluster/torchrun.sh --config configs/train/ddpm_cifar10.yaml --run runs/cifar10
# Ends with 0 finished, 75 stopped and saved (start it again to go on), anything else failed. See docs/cluster.md.
set -u
python="${PYTHON:-.venv/bin/python}"
gpus="${GPUS:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l)}" nodes="${NODES:-1}"
if [ "$gpus" -lt 1 ]; then
    echo "error: nvidia-smi shows no GPU: give the number of processes per node, GPUS=8 $0 ..." >&2
    exit 2
fi
run='' before=''
for option in "$@"; do
    case "$option" in
        --run=*) run="${option#--run=}" ;;
        *) [ "$before" = --run ] && run="$option" ;;
    esac
    before="$option"
done
if [ -z "$run" ]; then
    echo "error: give the run folder, --run runs/NAME" >&2
    exit 2
fi
if [ "$nodes" -gt 1 ]; then
    where=(--nnodes "$nodes" --rdzv-backend c10d --rdzv-endpoint "${HEAD:?error: give the first node, HEAD=host:port}" --rdzv-id "$(basename "$run")")
else
    where=(--standalone)
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONUNBUFFERED=1
export WANDB_FINISH_TIMEOUT="${WANDB_FINISH_TIMEOUT:-90}" # a slow upload does not hold the nodes; what is left, wandb sync sends
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}" # seconds in which to save when torchrun itself is stopped

rm -f "$run/preempted.json" # of the last time; written again when this run is stopped
# `--` ends torchrun's own options: without it Python 3.11 takes --run for an abbreviation of torchrun's --run-path.
# SLURM sends USR1 to every process of a step: torchrun, which would die of it before its processes have saved, ignores it.
(
    trap '' USR1
    exec "$python" -m torch.distributed.run "${where[@]}" --nproc-per-node "$gpus" -- \
        train.py fit "$@" --trainer.num_nodes "$nodes" --trainer.devices "$gpus"
) &
child=$!
stopped=''
# To the training processes, which save between two steps; before there are any, to torchrun.
# shellcheck disable=SC2317,SC2329  # called by the trap
stop() {
    stopped=yes
    pkill -USR1 -P "$child" || kill -TERM "$child" 2>/dev/null
}
trap stop USR1 TERM INT
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do # a signal ends the first wait: the run is still saving
    wait "$child"
    code=$?
done
# torchrun says 1 whatever its processes say: the run folder knows better.
if [ "$code" -ne 0 ] && { [ -n "$stopped" ] || [ -e "$run/preempted.json" ]; }; then
    code=75
fi
exit "$code"
