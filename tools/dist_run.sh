#!/usr/bin/env bash
# Start one process a GPU with torchrun: dist_run.sh GPUS TOOL [arguments].
# Used by dist_train.sh and dist_test.sh. The Python is $PYTHON, else the
# project's own environment, else the one on the PATH.
set -euo pipefail
TOOLS=$(cd "$(dirname "$0")" && pwd)
GPUS=$1
TOOL=$2
PYTHON=${PYTHON:-$([ -x "$TOOLS/../.venv/bin/python" ] && echo "$TOOLS/../.venv/bin/python" || echo python)}
PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}" exec "$PYTHON" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" "$TOOLS/$TOOL" --launcher pytorch "${@:3}"
