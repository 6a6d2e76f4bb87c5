#!/usr/bin/env bash
# Train on several processes of this machine (and others):
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: the same command on each, with NNODES, NODE_RANK and
# MASTER_ADDR set. Without CUDA the processes run on the CPU.
set -euo pipefail
CONFIG=${1:?usage: bash tools/dist_train.sh CONFIG GPUS [options]}
GPUS=${2:?usage: bash tools/dist_train.sh CONFIG GPUS [options]}
exec "$(dirname "$0")/dist_run.sh" "$GPUS" train.py "$CONFIG" "${@:3}"
