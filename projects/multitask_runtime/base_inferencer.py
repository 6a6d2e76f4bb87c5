"""Base class of the inferencers: inputs, tracking, visualization and output files."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2

from .drawing import draw_result
from .io.frames import Frame, count_images, read_frames
from .io.image_viewer import ImageViewer
from .io.inputs import Input, collect
from .io.outputs import OutputFolder, earlier_results
from .result import Result
from .tracking.tracker import Tracker
from .utils.errors import InputError
from .utils.progress import Progress
from .utils.types import Array, Meta


class BaseInferencer:
    """Detect instances in images and videos.

    A subclass sets the attributes and implements :meth:`_results`.

    Attributes:
        dataset_meta (dict): Classes, keypoints, skeleton, colors and OKS sigmas.
        read_image (Callable): Reads the image file at a path.
        kpt_thr (float): Keypoints with a lower score are not drawn by default.
        mask_alpha (float): Opacity of the masks in visualizations.
        show_progress (bool): Whether to show progress on stderr.
        skipped (list[str]): One sentence for each input that the latest run could not
            read or not process completely.
    """

    dataset_meta: Meta
    read_image: Callable[[str], Array]
    kpt_thr: float
    mask_alpha: float
    show_progress: bool
    skipped: Sequence[str] = ()

    def __call__(self, inputs: Input | list[Input], **options: Any) -> list[Result]:
        """Detect the instances of all inputs.

        All results are kept in memory; for long videos and cameras use :meth:`stream`.

        Args:
            inputs (str | Path | np.ndarray | int | list): As in :meth:`stream`.
            options: As in :meth:`stream`.

        Returns:
            list[Result]: One result for each image and frame, in order.
        """
        return list(self.stream(inputs, **options))

    def stream(
        self,
        inputs: Input | list[Input],
        batch_size: int = 1,
        score_thr: float = 0.3,
        kpt_thr: float | None = None,
        out_dir: str | Path | None = None,
        show: bool = False,
        track: bool = False,
    ) -> Iterator[Result]:
        """Detect the instances of one image after the other.

        At most two batches of images are in memory at a time, and some frames of a video:
        two are read ahead, one is drawn while the next one is predicted, and two wait to be
        encoded. Frames of a live stream that come faster than they can be processed are
        dropped; a lost connection is made again.

        Args:
            inputs (str | Path | np.ndarray | int | list): Path of an image or video, array
                (H, W, 3) BGR uint8, folder of images, glob pattern, index of a camera,
                http(s):// or rtsp(s):// URL of a video or live stream, or a list of these.
            batch_size (int): Number of images that go through the model at once, as long
                as they have the same size. Defaults to 1.
            score_thr (float): Instances with a lower score are neither drawn nor tracked;
                results have all. Defaults to 0.3.
            kpt_thr (float, optional): Keypoints with a lower score are not drawn.
                Defaults to ``kpt_thr`` of the inferencer.
            out_dir (str | Path, optional): Folder for visualized images and videos, under
                the names of the inputs, and for ``predictions.json`` in COCO's format.
            show (bool): Whether to show them in a window. Defaults to False.
            track (bool): Whether to track the instances of each video. Defaults to False.

        Yields:
            Result: A dict with attributes; with ``track`` it also has ``track_ids`` (N),
            -1 for instances that are not tracked. An image that cannot be read or
            processed has none and is reported on stderr and in ``skipped``.

        Raises:
            InputError: If an input is of a wrong kind, or none can be read.
            FileNotFoundError: If a path does not exist.
            NoWindowError: If there is no screen to show images on.
            ValueError: If the batch size is not positive, or there is no video to track in.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size: expected 1 or more, got {batch_size}')
        sources, ignored = collect(inputs, leave_out=earlier_results(out_dir))
        if track and not any(source.is_moving for source in sources):
            raise ValueError(
                f'track: expected a video or camera, found only images ({sources[0].title})'
            )
        outputs = OutputFolder(out_dir, sources, self.dataset_meta) if out_dir else None
        viewer = ImageViewer() if show else None

        def draw(frame: Frame, result: Result) -> Array:
            return self.visualize(frame.image, result, score_thr, kpt_thr)

        # A generator of its own, so that wrong arguments raise here and not at next().
        def run() -> Iterator[Result]:
            progress = Progress(len(sources), count_images(sources), self.show_progress, ignored)
            self.skipped = progress.skipped
            frames = read_frames(sources, self.read_image, progress)
            with ExitStack() as stack:
                # Also of a run that is interrupted; the files are closed first.
                stack.callback(progress.close)
                stack.callback(frames.close)  # type: ignore[attr-defined]
                if outputs:
                    stack.enter_context(outputs)
                if viewer:
                    stack.callback(viewer.close)
                results = self._results(frames, batch_size, progress)
                if track:
                    results = self._track(results, score_thr)
                drawings = _draw_behind(results, draw if outputs or viewer else None)
                stack.enter_context(closing(drawings))
                for frame, result, drawing in drawings:
                    result.kpt_thr, result.mask_alpha = self.kpt_thr, self.mask_alpha
                    try:
                        if drawing:
                            drawn = drawing.result()
                        if outputs:
                            outputs.write(frame, drawn, result)
                    except (InputError, MemoryError, cv2.error) as error:
                        progress.fail(frame.source, frame.title, error)
                        continue
                    progress.step()
                    yield result
                    if viewer and not viewer.show(drawn, frame.source.is_moving):
                        break
            progress.raise_if_nothing()

        return run()

    def visualize(
        self,
        image: Array,
        result: Mapping[str, Any],
        score_thr: float = 0.3,
        kpt_thr: float | None = None,
    ) -> Array:
        """Draw a result into its image.

        Args:
            image (np.ndarray): BGR, uint8, shape (H, W, 3); is not modified.
            result (dict): The result of this image.
            score_thr (float): Instances must have a higher score. Defaults to 0.3.
            kpt_thr (float, optional): Keypoints with a lower score are not drawn.
                Defaults to ``kpt_thr`` of the inferencer.

        Returns:
            np.ndarray: A new image, BGR, uint8, shape (H, W, 3).
        """
        kpt_thr = self.kpt_thr if kpt_thr is None else kpt_thr
        return draw_result(image, result, self.dataset_meta, score_thr, kpt_thr, self.mask_alpha)

    def _track(
        self, results: Iterable[tuple[Frame, Result]], score_thr: float
    ) -> Iterator[tuple[Frame, Result]]:
        """Add the track ids to the results of videos."""
        source = None
        for frame, result in results:
            if frame.source.is_moving:
                if frame.source is not source:
                    source = frame.source
                    tracker = Tracker(self.dataset_meta.get('sigmas'), score_thr)
                result['track_ids'] = tracker.update(result)
            yield frame, result

    def _results(
        self, frames: Iterable[Frame], batch_size: int, progress: Progress
    ) -> Iterator[tuple[Frame, Result]]:
        """Yield each frame with its result, in order.

        Frames that fail are reported and have no result.
        """
        raise NotImplementedError


def _draw_behind(
    results: Iterable[tuple[Frame, Result]], draw: Callable[[Frame, Result], Array] | None
) -> Generator[tuple[Frame, Result, Future[Array] | None], None, None]:
    """Yield each frame with its result and its drawing, made while the next frame is predicted.

    No result waits for the next one of a camera or stream, which may take its time, or without
    ``draw``.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        waiting = None
        try:
            for frame, result in results:
                if draw is None:
                    yield frame, result, None
                    continue
                ready, waiting = waiting, (frame, result, executor.submit(draw, frame, result))
                if ready:
                    yield ready
                if frame.source.kind in ('camera', 'stream'):
                    ready, waiting = waiting, None
                    yield ready
        except (Exception, KeyboardInterrupt):
            if waiting:  # was predicted before the error
                yield waiting
            raise
        if waiting:
            yield waiting
