"""Worker process of a baseline: ``python -m benchmarks.speed.worker``.

It reads commands as lines of JSON, ``[name, arguments]``, from the standard input and answers
each with a line of JSON. What libraries print goes to the standard error. It idles between two
commands, and ends with its input or, with a traceback, if a command fails.
"""

import importlib
import json
import os
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# The inputs need NumPy alone, but importing multitask_refine itself imports PyTorch, whose memory
# would count as that of a network that runs without it.
if 'multitask_refine' not in sys.modules:
    package = types.ModuleType('multitask_refine')
    package.__path__ = [str(Path(__file__).resolve().parents[2] / 'projects/multitask_refine')]
    sys.modules['multitask_refine'] = package

from benchmarks.speed.inputs import load_images, load_people

# Where MMEngine is not installed, the package itself cannot be imported at all.
if not hasattr(sys.modules['multitask_refine'], '__file__') and importlib.util.find_spec(
    'mmengine'
):
    del sys.modules['multitask_refine']

Names = Sequence[Sequence[int]]  # seed, height and width of each image


class Worker:
    """Commands of the worker; arguments and results are JSON."""

    def build(self, baseline: str, options: dict) -> dict:
        """Build the baseline.

        Args:
            baseline: ``module:Class``.
            options: Arguments of the class.

        Returns:
            Versions, threads and device; or ``not_installed``, the missing module.
        """
        module, name = baseline.split(':')
        try:
            build = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            return dict(not_installed=error.name)
        self.baseline = build(**options)
        return self.baseline.describe()

    def save_weights(self, path: str) -> dict:
        """Save the weights in the framework's layout."""
        self.baseline.save_weights(path)
        return {}

    def load_task(self, task: str, images: Names) -> Callable[[], Any]:
        """Load the batch of a task, ``predict`` or ``step``, and return what runs it."""
        people = [load_people(*name) for name in images] if task == 'step' else None
        batch = self.baseline.to_batch(load_images(images), people)
        if people:
            self.baseline.set_extra_proposals(people)
        return lambda: getattr(self.baseline, task)(batch)

    def measure(self, task: str, images: Names) -> dict:
        """Measure the latency of a task, and return its loss or detections per image."""
        run = self.load_task(task, images)
        self.baseline.synchronize()  # the batch may still be on its way to the device
        start = time.perf_counter()
        result = run()
        self.baseline.synchronize()
        seconds = time.perf_counter() - start
        if task == 'step':
            return dict(seconds=seconds, loss=result)
        counts = [len(self.baseline.to_arrays(each)['scores']) for each in result]
        return dict(seconds=seconds, detections=counts)

    def measure_memory(self, task: str, images: Names) -> dict:
        """Measure the peak memory of a task."""
        return self.baseline.measure_memory(lambda: self.load_task(task, images)())

    def save_detections(self, image: Sequence[int], path: str) -> dict:
        """Save the persons that are detected in an image as arrays."""
        (result,) = self.load_task('predict', [image])()
        arrays = {
            name: values.detach().cpu().numpy()
            for name, values in self.baseline.to_arrays(result).items()
        }
        is_person = arrays['labels'] == self.baseline.person_label
        np.savez(path, **{name: values[is_person] for name, values in arrays.items()})
        return {}

    def profile_stages(self, task: str, images: Names, rounds: int) -> dict:
        """Profile a task by stages; see :func:`benchmarks.speed.stages.measure_stages`."""
        # It needs this project's operators, which other environments lack.
        from benchmarks.speed.stages import measure_stages

        run = self.load_task(task, images)
        run()  # warm-up; it also chooses between the trained and the prepared network
        return measure_stages(self.baseline, run, rounds)


def main() -> None:
    """Answer the commands of the standard input."""
    # Descriptor 1 becomes the standard error, as libraries in C print, too; the answers go to a
    # copy of the original one.
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        command, arguments = json.loads(line)
        print(json.dumps(getattr(worker, command)(**arguments)), file=answers, flush=True)


if __name__ == '__main__':
    main()
