"""The other end of a baseline's process."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAIL = 15  # lines of a crashed process that are shown


class BaselineError(RuntimeError):
    """A baseline's process ended before it answered."""


class Process:
    """A baseline in a process of its own; a context manager.

    Args:
        name (str): For messages.
        python (str): Its interpreter.
        search_path (str, optional): Takes the place of PYTHONPATH.
    """

    def __init__(
        self, name: str, python: str = sys.executable, search_path: str | None = None
    ) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile('w+')  # noqa: SIM115 (closed with the process)
        environment = dict(os.environ)
        if search_path:
            environment['PYTHONPATH'] = search_path
        self.process = subprocess.Popen(
            [python, '-m', 'benchmarks.speed.server'],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for the answer.

        Raises:
            BaselineError: If the process ends instead.
        """
        try:
            self._send(dict(do=command, **arguments))
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ''
        if not answer:
            raise BaselineError(self._explain(command))
        return json.loads(answer)

    def _send(self, content: dict) -> None:
        self.process.stdin.write(json.dumps(content) + '\n')
        self.process.stdin.flush()

    def _explain(self, command: str) -> str:
        status = self.process.wait()
        self.errors.seek(0)
        tail = ''.join(self.errors.readlines()[-TAIL:])
        return (
            f'baseline {self.name}: its process ended at {command!r} '
            f'with status {status}. Its last lines:\n{tail}'
        )

    def close(self) -> None:
        """End the process, which may be gone already."""
        try:
            self._send(dict(do='stop'))
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self) -> 'Process':
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
