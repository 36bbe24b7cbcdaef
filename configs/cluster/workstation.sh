#!/bin/bash
# Trains on all GPUs of this machine (or on GPUS=n of them). From the repository:
#   configs/cluster/workstation.sh --config configs/train/ddpm_cifar10.yaml --run runs/cifar10
# Ctrl-C, or kill of this process: it saves between two steps; the same command again goes on. See docs/cluster.md.
set -u
python="${PYTHON:-.venv/bin/python}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONUNBUFFERED=1
strategy=(--config configs/cluster/ddp.yaml)
for word in "$@"; do
    case "$word" in # the command, or a config of it, says another one, which the last config would replace
        --trainer.strategy*) strategy=() ;;
        *.yaml | *.yml) grep -qs '^ *strategy:' "${word#--config=}" && strategy=() ;;
    esac
done
exec "$python" train.py fit "$@" "${strategy[@]}" --trainer.devices "${GPUS:-auto}"
