"""A baseline without a network, for the benchmark's worker processes."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch


class StandIn:
    """Detects a given number of people.

    Args:
        detections (int): People per image.
        shift (float): Added to their boxes, in pixels.
        crash (bool): Whether inference ends the process.
        kwargs: Ignored.
    """

    person_label = 0

    def __init__(
        self, detections: int = 20, shift: float = 0.0, crash: bool = False, **kwargs: Any
    ) -> None:
        self.detections, self.shift, self.crash = detections, shift, crash
        self.num_proposals = 0

    def describe(self) -> dict:
        print('a library that prints')
        os.system('echo a program that prints')
        return dict(device='none', threads=1, versions=dict(stand_in='1'))

    def save_weights(self, path: str) -> None:
        np.save(path, np.zeros(1))

    def to_batch(self, images: Sequence[np.ndarray], people: Any = None) -> list:
        return [image.shape for image in images]

    def set_extra_proposals(self, people: Sequence[Any]) -> None:
        self.num_proposals = sum(len(each.extra_proposals) for each in people)

    def predict(self, batch: list) -> list[int]:
        if self.crash:
            print('out of beans', file=sys.stderr, flush=True)
            os._exit(3)
        return [self.detections] * len(batch)

    def step(self, batch: list) -> float:
        return self.num_proposals / 2

    def to_arrays(self, result: int) -> dict:
        """The last person has another class."""
        corners = torch.arange(result)[:, None] * 10.0 + torch.tensor([0, 0, 8, 8])
        labels = (torch.arange(result) == result - 1).long()
        return dict(boxes=corners + self.shift, scores=torch.ones(result), labels=labels)

    def synchronize(self) -> None:
        pass

    def measure_memory(self, call: Callable[[], object]) -> dict:
        call()
        return dict(peak_bytes=1000, peak_of_task=True)
