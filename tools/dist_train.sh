#!/usr/bin/env bash
# Train on several processes of this machine, or of several (docs/distributed-training.md).
# Without CUDA the processes run on the CPU.
USAGE='[NNODES= NODE_RANK= MASTER_ADDR= PORT=] bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]'
. "$(dirname "$0")/launch.sh"
[ $# -ge 2 ] || fail "expected CONFIG and GPUS, found $# arguments"
need_file CONFIG "$1"
run_torchrun train.py "$2" "$1" "${@:3}"
