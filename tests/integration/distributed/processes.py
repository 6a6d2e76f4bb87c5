"""Run real processes with a time limit."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from tests.conftest import ROOT


def free_port() -> str:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def run(
    *commands: list[str],
    timeout: float = 600,
    own: Sequence[dict[str, str]] = (),
    **variables: str,
) -> str:
    """Run commands concurrently, and fail unless all of them succeed.

    Args:
        commands (list[str]): Commands with their arguments.
        timeout (float): Time limit in seconds.
        own (Sequence[dict[str, str]]): Further environment variables of each command.
        variables (str): Environment variables of all commands.

    Returns:
        str: Their outputs, joined.
    """
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable)
    env['PATH'] = f'{os.path.dirname(sys.executable)}:{env["PATH"]}'
    env.update(variables)
    logs = [tempfile.TemporaryFile('w+') for _ in commands]  # noqa: SIM115
    started = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**env, **extra},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for command, log, extra in zip(commands, logs, own or [{}] * len(commands), strict=True)
    ]
    _wait(started, timeout)
    for log in logs:
        log.seek(0)
    texts = [log.read() for log in logs]
    codes = [process.returncode for process in started]
    assert not any(codes), '\n'.join(
        f'--- exit status {code}:\n{text[-3000:]}' for code, text in zip(codes, texts, strict=True)
    )
    return '\n'.join(texts)


def _wait(started: list[subprocess.Popen], timeout: float) -> None:
    """Wait for all, or until one fails, and end the others, which may wait for it."""
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
