#!/usr/bin/env bash
# Test on a Slurm cluster (docs/distributed-training.md).
USAGE='[GPUS= GPUS_PER_NODE= CPUS_PER_TASK= SRUN_ARGS= PORT=] bash tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options of tools/test.py]'
. "$(dirname "$0")/launch.sh"
[ $# -ge 4 ] || fail "expected PARTITION, JOB, CONFIG and CHECKPOINT, found $# arguments"
need_file CONFIG "$3"
need_file CHECKPOINT "$4"
run_slurm test.py "$1" "$2" "$3" "$4" "${@:5}"
