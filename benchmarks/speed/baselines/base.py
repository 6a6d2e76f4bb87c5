"""What every baseline can do.

Nothing of the project's package is imported here: the module also runs where
another framework is installed and this one is not.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.inputs import People
from multitask_refine.testing.synthetic_weights import draw_weights
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file

SEED = 7
LEARNING_RATE = 1e-6  # the weights stay what they are


class Baseline(ABC):
    """A network with one way to predict and one way to train.

    Args:
        device (str): ``cpu`` or ``cuda``.
        detections (int): Most detections of an image.
        score_threshold (float): Detections below are dropped.
        weights (str, optional): A file in the network's own layout. Without
            one the weights are drawn by name.
    """

    person = 0  # the number of the class
    checkpoint_key: str | None = None  # of the state dict in a file

    def __init__(
        self,
        device: str = 'cpu',
        detections: int = 20,
        score_threshold: float = 0.0,
        weights: str | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.detections = detections
        self.score_threshold = score_threshold
        self.copies: list[Tensor] = []  # proposals added to each image's
        self.foreground: list[int] = []  # RoIs that the heads saw, by image
        self.model = self.build()
        self._load(weights)
        self.model.to(self.device)
        self.optimizer = torch.optim.SGD(
            [p for p in self.model.parameters() if p.requires_grad],
            LEARNING_RATE,
            momentum=0.9,
            weight_decay=1e-4,
        )

    @abstractmethod
    def build(self) -> nn.Module:
        """Make the network; its proposals are topped up with ``copies`` and
        its foreground RoIs counted in training."""

    @abstractmethod
    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> Any:
        """What the framework's data loader gives, in the memory of the host.

        Args:
            images (Sequence[ndarray]): RGB, uint8 (H, W, 3).
            people (Sequence[People], optional): For training.
        """

    @abstractmethod
    def run(self, batch: Any) -> list[Any]:
        """The detections of each image, as the framework gives them."""

    @abstractmethod
    def losses(self, batch: Any) -> Tensor:
        """The sum of all losses."""

    @abstractmethod
    def to_arrays(self, result: Any) -> dict[str, Any]:
        """An image's ``boxes`` (N, 4), ``scores`` (N), ``labels`` (N) and,
        where there are heads, ``masks`` (N, H, W) and ``keypoints``
        (N, 17, 2), all in image pixels."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Of the framework."""

    def predict(self, batch: Any) -> list[Any]:
        """:meth:`run` as users run it."""
        self.model.eval()
        with torch.no_grad():
            return self.run(batch)

    def step(self, batch: Any) -> float:
        """Forward, backward and a step of SGD; the loss."""
        self.model.train()
        self.foreground.clear()
        self.optimizer.zero_grad()
        loss = self.losses(batch)
        self.backward(loss)
        self.optimizer.step()
        return loss.item()

    def backward(self, loss: Tensor) -> None:
        """The gradients of all weights that are trained."""
        loss.backward()

    def set_copies(self, people: Sequence[People]) -> None:
        """Choose the boxes that are added to the proposals."""
        self.copies = [torch.from_numpy(p.copies).to(self.device) for p in people]

    def arrays(self, result: Any) -> dict[str, np.ndarray]:
        """The persons among an image's detections."""
        tensors = self.to_arrays(result)
        chosen = (tensors['labels'] == self.person).cpu()
        return {name: values.detach().cpu()[chosen].numpy() for name, values in tensors.items()}

    def count(self, result: Any) -> int:
        """Detections of an image, of whatever class."""
        return len(self.to_arrays(result)['scores'])

    def describe(self) -> dict[str, Any]:
        """Versions, threads and device."""
        name = 'CPU'
        if self.device.type == 'cuda':
            name = torch.cuda.get_device_name(self.device)
        return dict(
            device=name,
            threads=torch.get_num_threads(),
            versions=dict(torch=torch.__version__, **self.versions()),
        )

    def save_weights(self, path: str) -> None:
        """Write the weights as the framework's own files hold them."""
        state = self.model.state_dict()
        if self.checkpoint_key:
            state = {self.checkpoint_key: state}
        torch.save(state, path)

    def synchronize(self) -> None:
        """Wait until the device is done."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def reset_memory(self) -> bool:
        """Forget the peak so far; whether the system allows it."""
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        try:
            Path('/proc/self/clear_refs').write_text('5')
        except OSError:
            return False
        return True

    def peak_memory(self) -> int:
        """Bytes: the process's on the CPU, the tensors' on CUDA."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device)
        status = Path('/proc/self/status').read_text()
        return 1024 * int(status.split('VmHWM:')[1].split()[0])

    def draw(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Weights like a trained network's, by their names."""
        return {
            name: torch.from_numpy(values) for name, values in draw_weights(shapes, SEED).items()
        }

    def stage_calls(self) -> list[tuple[Any, str, str]]:
        """Objects, their methods, and the stage that each method is."""
        return []

    def _load(self, weights: str | None) -> None:
        state = self.model.state_dict()
        if weights:
            content = load_checkpoint_file(weights)
            loaded = content.get(self.checkpoint_key, content)
        else:
            shapes = {
                k: tuple(v.shape)
                for k, v in state.items()
                if not k.endswith('num_batches_tracked')
            }
            loaded = self.draw(shapes)
        counters = {k: v for k, v in state.items() if k.endswith('num_batches_tracked')}
        self.model.load_state_dict({**counters, **loaded})
