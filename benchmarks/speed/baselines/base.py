"""Interface of the baselines: a detector that predicts and trains on the benchmark's inputs.

Baselines of other frameworks run where MMEngine is not installed, so this module and its imports
need only NumPy and PyTorch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.inputs import People
from benchmarks.speed.memory import measure_peak
from multitask_refine.testing.synthetic_weights import draw_weights

SEED = 7
LEARNING_RATE = 1e-6  # small enough that the weights hardly change


class Baseline(ABC):
    """A detector of one framework.

    Args:
        config: Name of the network in the framework.
        device: ``cpu`` or ``cuda``.
        detections: Maximum number of detections per image.
        score_threshold: Detections with a lower score are dropped.
        weights: Checkpoint in the framework's layout; without it, synthetic weights.
        bfloat16: Whether to use automatic mixed precision in bfloat16.

    Attributes:
        extra_proposals: Boxes (P, 4) per image that are appended to the proposals in training,
            so that every framework trains its heads on as many foreground RoIs.
        person_label: Label of the class person.
        checkpoint_key: Key of the state dict in a checkpoint; None if it is the whole file.
        packages: Distributions whose versions the results file records.
    """

    person_label = 0
    checkpoint_key: str | None = None
    packages: tuple[str, ...] = ()

    def __init__(
        self,
        config: str,
        device: str = 'cpu',
        detections: int = 20,
        score_threshold: float = 0.0,
        weights: str | None = None,
        bfloat16: bool = False,
    ) -> None:
        self.config, self.device = config, torch.device(device)
        self.detections, self.score_threshold = detections, score_threshold
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16)
        self.extra_proposals: list[Tensor] = []
        self.model = self.build()
        if weights:  # a file that the benchmark itself has written
            content = torch.load(weights, map_location='cpu', weights_only=True)
            state = content.get(self.checkpoint_key, content)
        else:
            state = self.draw_weights()
        # Drawn and converted state dicts may lack the batch counters of the norms.
        counters = {
            name: value
            for name, value in self.model.state_dict().items()
            if name.endswith('num_batches_tracked')
        }
        self.model.load_state_dict({**counters, **state})
        self.model.to(self.device)
        self.optimizer = torch.optim.SGD(
            [p for p in self.model.parameters() if p.requires_grad],
            LEARNING_RATE,
            momentum=0.9,
            weight_decay=1e-4,
        )

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the model, whose proposals include ``extra_proposals`` in training."""

    @abstractmethod
    def to_batch(
        self, images: Sequence[np.ndarray], people: Sequence[People] | None = None
    ) -> Any:
        """Collate a batch in host memory, as the framework's data loader does.

        Args:
            images: RGB, uint8 (H, W, 3).
            people: Annotations per image, for training.
        """

    @abstractmethod
    def run(self, batch: Any) -> list[Any]:
        """Return the framework's detections of each image."""

    @abstractmethod
    def losses(self, batch: Any) -> Tensor:
        """Return the sum of all losses."""

    @abstractmethod
    def to_arrays(self, result: Any) -> dict[str, Tensor]:
        """Unpack the N detections of an image.

        Returns:
            ``boxes`` (N, 4) in image pixels, ``scores`` (N), ``labels`` (N) and, if the network
            has the heads, ``masks`` (N, H, W) and ``keypoints`` (N, 17, 2) in image pixels.
        """

    def draw_weights(self) -> dict[str, Tensor]:
        """Draw synthetic weights by parameter name."""
        shapes = {
            name: tuple(value.shape)
            for name, value in self.model.state_dict().items()
            if not name.endswith('num_batches_tracked')
        }
        weights = draw_weights(shapes, SEED)
        return {name: torch.from_numpy(value) for name, value in weights.items()}

    def set_extra_proposals(self, people: Sequence[People]) -> None:
        """Set the extra proposals of the images of the next training steps."""
        self.extra_proposals = [
            torch.from_numpy(each.extra_proposals).to(self.device) for each in people
        ]

    def predict(self, batch: Any) -> list[Any]:
        """Run inference, as users of the framework run it."""
        self.model.eval()
        with torch.no_grad(), self.autocast:
            return self.run(batch)

    def step(self, batch: Any) -> float:
        """Run forward, backward and a step of SGD; return the loss."""
        self.model.train()
        self.optimizer.zero_grad()
        with self.autocast:
            loss = self.losses(batch)
        loss.backward()
        self.optimizer.step()
        return loss.item()  # waits for the device

    def describe(self) -> dict[str, Any]:
        """Return device, number of threads and versions."""
        is_cuda = self.device.type == 'cuda'
        return dict(
            device=torch.cuda.get_device_name(self.device) if is_cuda else 'CPU',
            threads=torch.get_num_threads(),
            # The distribution of torch does not name its CUDA version.
            versions=dict(
                torch=torch.__version__, **{name: version(name) for name in self.packages}
            ),
        )

    def save_weights(self, path: str) -> None:
        """Save the weights in the framework's layout."""
        state = self.model.state_dict()
        torch.save({self.checkpoint_key: state} if self.checkpoint_key else state, path)

    def synchronize(self) -> None:
        """Wait for the kernels of the device."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def measure_memory(self, call: Callable[[], object]) -> dict[str, Any]:
        """Measure the peak memory of a call.

        Returns:
            ``peak_bytes``, the resident memory of the process on the CPU, the allocated tensors
            on CUDA; ``peak_of_task``, whether it is of this call alone: where the system cannot
            reset the peak, it is of the whole life of the process.
        """
        if self.device.type == 'cuda':
            # PyTorch's allocator counts the tensors only, not what CUDA itself takes.
            torch.cuda.reset_peak_memory_stats(self.device)
            call()
            return dict(peak_bytes=torch.cuda.max_memory_allocated(self.device), peak_of_task=True)
        return measure_peak(call)
