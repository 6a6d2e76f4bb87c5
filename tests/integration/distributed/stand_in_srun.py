"""Stand-in for Slurm's srun that runs all nodes on this machine.

It accepts the options that the project and mim use and, like srun, refuses others. It records
its options in $SRUN_RECORD, starts the tasks with the environment variables of Slurm, and
forwards signals to them. With $SRUN_STARTS=0 it starts none.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser('srun', allow_abbrev=False)
    parser.add_argument('-p', '--partition', required=True)
    parser.add_argument('-J', '--job-name', required=True)
    parser.add_argument('--gres', required=True)
    parser.add_argument('--ntasks', type=int, required=True)
    parser.add_argument('--ntasks-per-node', type=int, required=True)
    parser.add_argument('--cpus-per-task', type=int, required=True)
    parser.add_argument('--kill-on-bad-exit', type=int, default=0)
    parser.add_argument('--comment')
    parser.add_argument('command', nargs=argparse.REMAINDER)
    return parser.parse_args()


def task_environment(args: argparse.Namespace, task: int) -> dict:
    """Return the environment variables of a task."""
    nodes = -(-args.ntasks // args.ntasks_per_node)
    return dict(
        os.environ,
        SLURM_JOB_ID='1',
        SLURM_JOB_NAME=args.job_name,
        SLURM_JOB_PARTITION=args.partition,
        SLURM_NTASKS=str(args.ntasks),
        SLURM_CPUS_PER_TASK=str(args.cpus_per_task),
        SLURM_NNODES=str(nodes),
        SLURM_NODELIST=f'standin[1-{nodes}]',
        SLURM_PROCID=str(task),
        SLURM_NODEID=str(task // args.ntasks_per_node),
        SLURM_LOCALID=str(task % args.ntasks_per_node),
    )


def wait(tasks: list, kill_on_bad_exit: bool) -> int:
    """Wait for all tasks and return the highest exit status."""
    while any(task.poll() is None for task in tasks):
        if kill_on_bad_exit and any(task.poll() for task in tasks):
            for task in tasks:
                task.kill()
        time.sleep(0.1)
    return max(abs(task.returncode) for task in tasks)


if __name__ == '__main__':
    args = parse_args()
    with open(os.environ['SRUN_RECORD'], 'w') as file:
        json.dump(vars(args), file)
    if os.environ.get('SRUN_STARTS') == '0':
        sys.exit()
    tasks = [
        subprocess.Popen(args.command, env=task_environment(args, task))
        for task in range(args.ntasks)
    ]
    for sign in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(sign, lambda sign, frame: [t.send_signal(sign) for t in tasks])
    sys.exit(wait(tasks, bool(args.kill_on_bad_exit)))
