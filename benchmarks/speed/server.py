"""One baseline in a process of its own.

    python -m benchmarks.speed.server

It reads commands as lines of JSON from the standard input and answers each
with a line of JSON. What libraries print goes to the standard error. Between
two commands it is idle. A command that fails ends the process, with the
reason on the standard error; only a framework that is not installed is an
answer.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import numpy as np

from benchmarks.speed.inputs import load_images, load_people

Names = Sequence[Sequence[int]]  # seed, height, width of each image


class Server:
    """The commands; each method's arguments and result are JSON's."""

    commands = ('build', 'save_weights', 'predict', 'step', 'outputs', 'memory', 'stages')

    def build(self, baseline: str, options: dict) -> dict:
        """Make the baseline.

        Args:
            baseline (str): ``module:Class``.
            options (dict): Its arguments.

        Returns:
            dict: Versions, threads and device; or ``not_installed``, the
            module that is missing.
        """
        module, name = baseline.split(':')
        try:
            maker = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            return dict(not_installed=error.name)
        self.baseline = maker(**options)
        return self.baseline.describe()

    def save_weights(self, path: str) -> dict:
        """Write the weights in the framework's own layout."""
        self.baseline.save_weights(path)
        return {}

    def predict(self, images: Names) -> dict:
        """Seconds of inference, and how many were detected in each image."""
        batch = self.baseline.to_batch(load_images(images))
        seconds, results = self._timed(self.baseline.predict, batch)
        counts = [self.baseline.count(result) for result in results]
        return dict(seconds=seconds, detections=counts)

    def step(self, images: Names) -> dict:
        """Seconds of a training step, its loss, and how many foreground RoIs
        the heads saw of each image."""
        seconds, loss = self._timed(self.baseline.step, self._annotated(images))
        return dict(seconds=seconds, loss=loss, foreground=list(self.baseline.foreground))

    def outputs(self, image: Sequence[int], path: str) -> dict:
        """Write an image's persons as arrays."""
        batch = self.baseline.to_batch(load_images([image]))
        (result,) = self.baseline.predict(batch)
        np.savez(path, **self.baseline.arrays(result))
        return {}

    def memory(self, task: str, images: Names) -> dict:
        """The peak of bytes while a task runs once, and whether it is of
        this run alone or since the process began."""
        alone = self.baseline.reset_memory()
        getattr(self, task)(images=images)
        return dict(bytes=self.baseline.peak_memory(), of_task=alone)

    def stages(self, task: str, images: Names, rounds: int) -> dict:
        """Seconds and floors of the stages of a task; see
        ``benchmarks.speed.stages``."""
        from benchmarks.speed.stages import measure_stages

        def run() -> Any:
            if task == 'step':
                return self.baseline.step(self._annotated(images))
            batch = self.baseline.to_batch(load_images(images))
            return self.baseline.predict(batch)

        run()  # the task's network is there only now
        return measure_stages(self.baseline, run, rounds)

    def _annotated(self, images: Names) -> Any:
        people = [load_people(*name) for name in images]
        self.baseline.set_copies(people)
        return self.baseline.to_batch(load_images(images), people)

    def _timed(self, call: Callable, batch: Any) -> tuple[float, Any]:
        self.baseline.synchronize()
        start = time.perf_counter()
        result = call(batch)
        self.baseline.synchronize()
        return time.perf_counter() - start, result


def take_stdout() -> TextIO:
    """The standard output for answers alone; prints go to the error."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    return answers


def serve(server: Server, lines: Sequence[str], answers: TextIO) -> None:
    """Answer commands until ``stop``."""
    for line in lines:
        command: dict[str, Any] = json.loads(line)
        name = command.pop('do')
        if name == 'stop':
            return
        if name not in server.commands:
            raise ValueError(
                f'command {name!r}: expected one of {", ".join(server.commands)} or stop'
            )
        answer = getattr(server, name)(**command)
        answers.write(json.dumps(answer) + '\n')
        answers.flush()


def main() -> int:
    serve(Server(), sys.stdin, take_stdout())
    return 0


if __name__ == '__main__':
    sys.exit(main())
