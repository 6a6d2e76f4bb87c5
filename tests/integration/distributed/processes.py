"""Start real processes and wait for them, but not for ever."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Dict, List, Sequence

from tests.conftest import ROOT


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def run(
    *commands: List[str],
    timeout: float = 600,
    own: Sequence[Dict[str, str]] = (),
    **variables: str,
) -> str:
    """Run commands side by side, and fail unless all of them succeed.

    Args:
        commands (list[str]): Each a command and its arguments.
        timeout (float): Seconds that they may take together.
        own (Sequence[dict]): For each command the variables of it alone.
        variables (str): Environment variables of all of them.

    Returns:
        str: What they wrote, one after the other.
    """
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable)
    env['PATH'] = f'{os.path.dirname(sys.executable)}:{env["PATH"]}'
    env.update(variables)
    logs = [tempfile.TemporaryFile('w+') for _ in commands]
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**env, **extra},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for command, log, extra in zip(commands, logs, own or [{}] * len(commands))
    ]
    _wait(started, timeout)
    for log in logs:
        log.seek(0)
    texts = [log.read() for log in logs]
    codes = [process.returncode for process in started]
    assert not any(codes), '\n'.join(
        f'--- exit status {code}:\n{text[-3000:]}' for code, text in zip(codes, texts)
    )
    return '\n'.join(texts)


def _wait(started: List[subprocess.Popen], timeout: float) -> None:
    """Wait for all, then end those that go on: one may wait for another."""
    deadline = time.monotonic() + timeout
    while any(process.poll() is None for process in started):
        if time.monotonic() > deadline or any(p.poll() for p in started):
            break
        time.sleep(0.1)
    for process in started:
        for sign, grace in (signal.SIGTERM, 20), (signal.SIGKILL, None):
            try:
                if process.poll() is None:
                    os.killpg(process.pid, sign)
                process.wait(grace)
            except subprocess.TimeoutExpired:
                continue
