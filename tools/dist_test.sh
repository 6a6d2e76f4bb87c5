#!/usr/bin/env bash
# Test on several processes of this machine (and others):
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Several machines: as in dist_train.sh.
set -euo pipefail
USAGE='usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options]'
CONFIG=${1:?$USAGE}
CHECKPOINT=${2:?$USAGE}
GPUS=${3:?$USAGE}
exec "$(dirname "$0")/dist_run.sh" "$GPUS" test.py "$CONFIG" "$CHECKPOINT" "${@:4}"
