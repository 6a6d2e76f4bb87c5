"""What the inferencers have in common: their calls, and what they write."""

from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from .drawing import draw
from .io.frames import Frame, count_images, read_frames
from .io.image_viewer import ImageViewer
from .io.inputs import Input, Source, collect
from .io.outputs import OutputFolder, earlier_results
from .tracking.tracker import Tracker
from .utils.errors import InputError
from .utils.progress import Progress

Inputs = Union[Input, List[Input]]


class BaseInferencer:
    """Find people in pictures and videos; a subclass says how.

    Attributes:
        dataset_meta (dict): Classes, joints, skeleton, colours and OKS
            sigmas.
        read_image (Callable): From the path of a picture to its array.
        kpt_thr (float): Joints with a lower score are not drawn, unless a
            call says otherwise.
        mask_alpha (float): Opacity of the masks in pictures.
        show_progress (bool): Whether to tell on stderr how far it is.
        skipped (list[str]): For each input that the latest run could not
            read, or of which it could not look at all, a sentence.
    """

    dataset_meta: dict
    read_image: Callable
    kpt_thr: float
    mask_alpha: float
    show_progress: bool
    skipped: Sequence[str] = ()

    def __call__(self, inputs: Inputs, **options) -> List[dict]:
        """Find the people of all inputs.

        Args:
            inputs: See :meth:`stream`. For long videos and cameras better
                take :meth:`stream`, because here all results are kept.
            options: Those of :meth:`stream`.

        Returns:
            list[dict]: One result for each image and frame, in order.
        """
        return list(self.stream(inputs, **options))

    def stream(
        self,
        inputs: Inputs,
        batch_size: int = 1,
        score_thr: float = 0.3,
        kpt_thr: Optional[float] = None,
        out_dir: Optional[Union[str, Path]] = None,
        show: bool = False,
        track: bool = False,
    ) -> Iterator[dict]:
        """Find the people of one image after the other.

        Of videos and files only a batch or two is in memory at a time. Of a
        live stream, frames that come faster than they can be looked at are
        dropped; where it breaks off, it is connected to again.

        Args:
            inputs: The path of a picture or a video, an array (H, W, 3) BGR
                uint8, a folder of pictures, a glob pattern, the index of a
                camera, an http(s):// or rtsp(s):// address of a video or
                live stream, or a list of these.
            batch_size (int): Images that go through the network at once, as
                long as they have one size. Defaults to 1.
            score_thr (float): People with a lower score are not drawn and
                not tracked; results have all. Defaults to 0.3.
            kpt_thr (float, optional): Joints with a lower score are not
                drawn. Defaults to ``kpt_thr`` of the inferencer.
            out_dir (str | Path, optional): Write pictures and videos here
                under the names of the inputs, and ``predictions.json`` in
                COCO's format.
            show (bool): Show them in a window. Defaults to False.
            track (bool): Number the people of each video. Defaults to False.

        Yields:
            dict: A result, see ``to_result``; with ``track`` it has
            ``track_ids`` (N), too, -1 for those that are not tracked. What
            cannot be read, or looked at, has none and is named on stderr
            and in ``skipped``.

        Raises:
            InputError: If an input is of a wrong kind, or none can be read.
            FileNotFoundError: If there is no such path.
            NoWindowError: If there is no screen to show pictures on.
            ValueError: If the batch size is not positive, or there is no
                video to track in.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size: expected 1 or more, got {batch_size}')
        sources, left_out = collect(inputs, leave_out=earlier_results(out_dir))
        if track and not any(source.is_moving for source in sources):
            raise ValueError(
                f'track: expected a video or camera, found pictures only ({sources[0].title})'
            )
        # All that is wrong with the options is said here, not at next().
        outputs = out_dir and OutputFolder(out_dir, sources, self.dataset_meta)
        window = ImageViewer() if show else None
        return self._run(
            sources,
            left_out,
            batch_size,
            track,
            outputs,
            window,
            dict(score_thr=score_thr, kpt_thr=kpt_thr),
        )

    def visualize(
        self,
        image: np.ndarray,
        result: dict,
        score_thr: float = 0.3,
        kpt_thr: Optional[float] = None,
    ) -> np.ndarray:
        """Draw a result into its image.

        Args:
            image (np.ndarray): (H, W, 3) BGR uint8; is left as it is.
            result (dict): What was found in it.
            score_thr (float): People with no higher score are not drawn.
            kpt_thr (float, optional): Joints with a lower score are not
                drawn. Defaults to ``kpt_thr`` of the inferencer.

        Returns:
            np.ndarray: The picture, (H, W, 3) BGR uint8.
        """
        kpt_thr = self.kpt_thr if kpt_thr is None else kpt_thr
        return draw(image, result, self.dataset_meta, score_thr, kpt_thr, self.mask_alpha)

    def _run(
        self,
        sources: List[Source],
        left_out: List[str],
        batch_size: int,
        track: bool,
        outputs: Optional[OutputFolder],
        window: Optional[ImageViewer],
        thresholds: dict,
    ) -> Iterator[dict]:
        report = Progress(len(sources), count_images(sources), self.show_progress, left_out)
        self.skipped = report.skipped
        frames = read_frames(sources, self.read_image, report)
        tracked = None
        with ExitStack() as stack:
            # Also of a run that is stopped, the files first.
            stack.callback(report.sum_up)
            stack.callback(frames.close)
            if outputs:
                stack.enter_context(outputs)
            if window:
                stack.callback(window.close)
            for frame, result in self._results(frames, batch_size, report):
                if track and frame.source.is_moving:
                    if frame.source is not tracked:
                        tracked = frame.source
                        tracker = self._new_tracker(thresholds['score_thr'])
                    result['track_ids'] = tracker.update(result)
                try:
                    if outputs or window:
                        picture = self.visualize(frame.image, result, **thresholds)
                    if outputs:
                        outputs.write(frame, picture, result)
                except (InputError, MemoryError, cv2.error) as error:
                    report.fail(frame.source, frame.title, error)
                    continue
                report.step()
                yield result
                if window and not window.show(picture, frame.source.is_moving):
                    break
        report.raise_if_nothing()

    def _results(
        self, frames: Iterable[Frame], batch_size: int, report: Progress
    ) -> Iterator[Tuple[Frame, dict]]:
        """Yield the result of each frame, in order; those that go wrong are
        reported and have none."""
        raise NotImplementedError

    def _new_tracker(self, score_thr: float) -> Tracker:
        return Tracker(self.dataset_meta.get('sigmas'), score_thr)
