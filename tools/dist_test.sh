#!/usr/bin/env bash
# Test on several processes of this machine, or of several (docs/distributed-training.md).
# Without CUDA the processes run on the CPU.
USAGE='[NNODES= NODE_RANK= MASTER_ADDR= PORT=] bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]'
. "$(dirname "$0")/launch.sh"
[ $# -ge 3 ] || fail "expected CONFIG, CHECKPOINT and GPUS, found $# arguments"
need_file CONFIG "$1"
need_file CHECKPOINT "$2"
run_torchrun test.py "$3" "$1" "$2" "${@:4}"
