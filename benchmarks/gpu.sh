#!/bin/bash
# Ten minutes of a GPU, one table: training steps beside other libraries, deep image prior, DPS. From the repository:
#   benchmarks/gpu.sh [--minutes 10] [--markdown] [--quick]
# Without a GPU it runs on the CPU. What each column means: benchmarks/gpu.py.
set -u
cd "$(dirname "$0")/.." || exit 1
exec "${PYTHON:-.venv/bin/python}" -m benchmarks.gpu "$@"
