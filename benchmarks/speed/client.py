"""Client of a baseline's worker process."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAIL = 15  # lines of a crashed worker's standard error that are shown


class BaselineError(RuntimeError):
    """A worker process ended before it answered."""


class WorkerProcess(AbstractContextManager):
    """A baseline in a process of its own; a context manager.

    Args:
        name: Name in error messages.
        python: The interpreter of its environment.
        search_path: Replaces PYTHONPATH, for another framework's environment.
    """

    def __init__(
        self, name: str, python: str = sys.executable, search_path: str | None = None
    ) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile('w+')  # noqa: SIM115 (closed with the process)
        # The standard error goes to a file: a pipe that nobody reads would fill up and block.
        self.process = subprocess.Popen(
            [python, '-m', 'benchmarks.speed.worker'],
            cwd=ROOT,
            env={**os.environ, **({'PYTHONPATH': search_path} if search_path else {})},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for the answer.

        Raises:
            BaselineError: If the process ends instead; with the end of its standard error.
        """
        answer = ''
        with suppress(BrokenPipeError):
            print(json.dumps([command, arguments]), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        if not answer:
            status = self.process.wait()
            self.errors.seek(0)
            tail = ''.join(self.errors.readlines()[-TAIL:])
            raise BaselineError(
                f'baseline {self.name}: its process ended at {command!r} '
                f'with status {status}. Its last lines:\n{tail}'
            )
        return json.loads(answer)

    def __exit__(self, *error: object) -> None:
        with suppress(BrokenPipeError):  # it may have crashed
            self.process.stdin.close()  # the worker ends with its input
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()
