"""A baseline without a network, for the benchmark's processes."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np


class StandIn:
    """Detects as many people as it is told.

    Args:
        detections (int): People of each image.
        shift (float): What is added to their boxes, in pixels.
        crash (bool): Whether it ends the process when it predicts.
        kwargs: Ignored.
    """

    def __init__(
        self, detections: int = 20, shift: float = 0.0, crash: bool = False, **kwargs: Any
    ) -> None:
        self.detections, self.shift, self.crash = detections, shift, crash
        self.foreground: list[int] = []
        self.weights = kwargs.get('weights')

    def describe(self) -> dict:
        print('a library that prints')
        os.system('echo a program that prints')
        return dict(device='none', threads=1, versions=dict(stand_in='1'))

    def save_weights(self, path: str) -> None:
        np.save(path, np.zeros(1))

    def to_batch(self, images: Sequence[np.ndarray], people: Any = None) -> list:
        return [image.shape for image in images]

    def set_copies(self, people: Sequence[Any]) -> None:
        self.foreground = [len(p.boxes) + len(p.copies) for p in people]

    def predict(self, batch: list) -> list[int]:
        if self.crash:
            print('out of beans', file=sys.stderr, flush=True)
            os._exit(3)
        return [self.detections] * len(batch)

    def step(self, batch: list) -> float:
        return 1.5

    def count(self, result: int) -> int:
        return result

    def arrays(self, result: int) -> dict:
        corners = np.arange(result)[:, None] * 10.0 + np.array([0, 0, 8, 8])
        return dict(boxes=corners + self.shift, scores=np.ones(result))

    def synchronize(self) -> None:
        pass

    def reset_memory(self) -> bool:
        return True

    def peak_memory(self) -> int:
        return 1000
