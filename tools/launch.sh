# Sourced by dist_train.sh, dist_test.sh, slurm_train.sh and slurm_test.sh: checks
# of their arguments, and the two launchers that start a process per GPU.
# The interpreter is $PYTHON, else that of the project's environment, else the one
# on the PATH.
set -euo pipefail
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHON=${PYTHON:-$([ -x "$TOOLS/../.venv/bin/python" ] && echo "$TOOLS/../.venv/bin/python" || echo python)}
export PYTHONPATH="$TOOLS/../projects${PYTHONPATH:+:$PYTHONPATH}"

fail() {
    echo "$(basename "$0"): $1" >&2
    echo "usage: $USAGE" >&2
    exit 2
}

# need_file KIND PATH
need_file() {
    [ -f "$2" ] || fail "$1: expected a file, but there is none at '$2'"
}

# need_number NAME VALUE LEAST MOST
need_number() {
    [[ $2 =~ ^(0|[1-9][0-9]{0,4})$ ]] && (($2 >= $3 && $2 <= $4)) ||
        fail "$1: expected a whole number from $3 to $4, but found '$2'"
}

# run_stoppable COMMAND...: forward SIGTERM and SIGUSR1, wait, and exit with the
# status of the command; with 75 if a training stopped at the signal
# (engine/hooks/preemption_hook.py), as torchrun and srun may exit with another
# status.
run_stoppable() {
    local child signalled=yes status
    MULTITASK_STATUS_FILE=$(mktemp)
    export MULTITASK_STATUS_FILE
    trap 'rm -f "$MULTITASK_STATUS_FILE"' EXIT
    "$@" &
    child=$!
    trap 'signalled=yes; kill -TERM "$child" 2>/dev/null || true' TERM USR1
    trap 'signalled=yes' INT # the terminal sends it to the command, too
    # A signal interrupts `wait` before the command has ended.
    while [ -n "$signalled" ]; do
        signalled='' status=0
        wait "$child" || status=$?
    done
    [ -s "$MULTITASK_STATUS_FILE" ] && exit 75
    exit "$status"
}

# ignoring_usr1 COMMAND...: SIGUSR1 would kill torchrun and orphan its processes.
ignoring_usr1() {
    trap '' USR1
    exec "$@"
}

# run_torchrun TOOL GPUS ARGUMENTS...: start the processes of this machine.
run_torchrun() {
    local nnodes=${NNODES:-1} port=${PORT:-29500}
    need_number GPUS "$2" 1 1024
    need_number NNODES "$nnodes" 1 10000
    need_number PORT "$port" 1 65535
    if ((nnodes > 1)); then
        [ -n "${MASTER_ADDR:-}" ] ||
            fail "NNODES=$nnodes needs MASTER_ADDR: name or address of the machine with NODE_RANK=0"
        need_number NODE_RANK "${NODE_RANK:-}" 0 $((nnodes - 1))
    fi
    run_stoppable ignoring_usr1 "$PYTHON" -m torch.distributed.run --nnodes="$nnodes" \
        --node_rank="${NODE_RANK:-0}" --nproc_per_node="$2" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" \
        "$TOOLS/$1" --launcher pytorch "${@:3}"
}

# run_slurm TOOL PARTITION JOB ARGUMENTS...: let Slurm start the processes.
run_slurm() {
    local gpus=${GPUS:-4} cpus=${CPUS_PER_TASK:-5} srun_args
    need_number GPUS "$gpus" 1 10000
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    need_number GPUS_PER_NODE "$per_node" 1 1024
    need_number CPUS_PER_TASK "$cpus" 1 1024
    # Concurrent jobs on one machine need different ports.
    export MASTER_PORT=${PORT:-$((20000 + RANDOM % 10000))}
    need_number PORT "$MASTER_PORT" 1 65535
    command -v srun >/dev/null ||
        fail "srun: there is no such command here; without Slurm use dist_${1%.py}.sh"
    read -ra srun_args <<<"${SRUN_ARGS:-}"
    run_stoppable srun -p "$2" --job-name="$3" --gres="gpu:$per_node" \
        --ntasks="$gpus" --ntasks-per-node="$per_node" \
        --cpus-per-task="$cpus" --kill-on-bad-exit=1 \
        ${srun_args[@]+"${srun_args[@]}"} \
        "$PYTHON" -u "$TOOLS/$1" --launcher slurm "${@:4}"
}
