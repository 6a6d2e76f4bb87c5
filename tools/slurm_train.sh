#!/usr/bin/env bash
# Train on a Slurm cluster (docs/distributed-training.md).
USAGE='[GPUS= GPUS_PER_NODE= CPUS_PER_TASK= SRUN_ARGS= PORT=] bash tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [options of tools/train.py]'
. "$(dirname "$0")/launch.sh"
[ $# -ge 4 ] || fail "expected PARTITION, JOB, CONFIG and WORK_DIR, found $# arguments"
need_file CONFIG "$3"
run_slurm train.py "$1" "$2" "$3" --work-dir "$4" "${@:5}"
