"""Run models on uploaded images and videos; everything here runs in the model thread."""

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from multitask_runtime.base_inferencer import BaseInferencer
from multitask_runtime.io.image_file import encode_image
from multitask_runtime.result import Result
from multitask_runtime.schemas import Limits, Prediction, VideoEnd
from multitask_runtime.tracking.tracker import Tracker
from multitask_runtime.utils.types import Array

from .uploads import check_size, get_title, open_video, read_image


@dataclass(frozen=True)
class ServedModel:
    """A model and what it is called.

    Args:
        name (str): Name by which requests choose it.
        inferencer (BaseInferencer): Runs it.
        draw_offsets (Callable, optional): Draws the learned offsets of an instance: takes the
            image (H, W, 3) BGR uint8, the rank of the instance by its score from 1, and the
            name of a keypoint or None for the one with the highest score; returns a PNG.
            It raises an ``ExplainedError`` if it cannot.
    """

    name: str
    inferencer: BaseInferencer
    draw_offsets: Callable[[Array, int, str | None], bytes] | None = None

    @property
    def why_no_offsets(self) -> str | None:
        """Reason why there is no picture of the offsets, or None."""
        if self.draw_offsets:
            return None
        return (
            f'{self.name}: an exported file does not give its offsets. Serve the config and the '
            'checkpoint that it was exported from.'
        )


@dataclass(frozen=True)
class Options:
    """What a request asks for.

    Args:
        model (ServedModel): The model.
        score_thr (float): Instances must have a higher score.
        kpt_thr (float, optional): Keypoints with a lower score are not drawn. Defaults to
            ``kpt_thr`` of the inferencer.
        visualize (bool): Whether to draw the image.
    """

    model: ServedModel
    score_thr: float
    kpt_thr: float | None
    visualize: bool


def predict_images(
    uploads: Sequence[UploadFile], options: Options, limits: Limits
) -> list[Prediction]:
    """Detect the instances of some images, which go through the model as one batch.

    Args:
        uploads (Sequence[UploadFile]): The images; all are in memory at once.
        options (Options): Options of the request.
        limits (Limits): Limits of the server.

    Returns:
        list[Prediction]: One for each image.

    Raises:
        HTTPException: If an image is refused, see ``read_image``.
        InputError: If a model refuses an image.
    """
    inferencer = options.model.inferencer
    images = [read_image(upload, inferencer.read_image, limits) for upload in uploads]
    results = inferencer(list(images), batch_size=len(images))
    if len(results) < len(images):
        raise RuntimeError(inferencer.skipped[0])
    for result, upload in zip(results, uploads, strict=True):
        result['source'] = get_title(upload)
    return [
        _to_prediction(image, result, options)
        for image, result in zip(images, results, strict=True)
    ]


def predict_video(
    upload: UploadFile, options: Options, frame_step: int, limits: Limits
) -> Iterator[Prediction | VideoEnd]:
    """Detect and track the instances of a video.

    Args:
        upload (UploadFile): The video.
        options (Options): Options of the request.
        frame_step (int): Process every n-th frame.
        limits (Limits): Limits of the server.

    Yields:
        Prediction | VideoEnd: One prediction for each processed frame, then the end.

    Raises:
        HTTPException: If the video is refused, see ``open_video``, or is too long.
        InputError: If the video or a frame cannot be read.
    """
    inferencer, title = options.model.inferencer, get_title(upload)
    with open_video(upload, limits) as reader:
        _check_length((reader.count or 0) / frame_step, title, frame_step, limits)
        tracker = Tracker(inferencer.dataset_meta.get('sigmas'), options.score_thr)
        number = 0
        for index, image in enumerate(reader):
            if index % frame_step:
                continue
            number += 1
            _check_length(number, title, frame_step, limits)
            check_size(image.shape[1], image.shape[0], title, limits)
            (result,) = inferencer(image)
            result['track_ids'] = tracker.update(result)
            result.update(source=title, frame=index, time=index / reader.rate)
            yield _to_prediction(image, result, options)
    yield VideoEnd(model=options.model.name, frames=number)


def draw_offsets(
    upload: UploadFile, model: ServedModel, instance: int, keypoint: str | None, limits: Limits
) -> bytes:
    """Draw the learned offsets for one instance of an image.

    Args:
        upload (UploadFile): The image.
        model (ServedModel): The model.
        instance (int): Rank of the instance by its score, from 1.
        keypoint (str, optional): Name of the keypoint. Defaults to the one with the highest
            score.
        limits (Limits): Limits of the server.

    Returns:
        bytes: Content of a PNG file.

    Raises:
        HTTPException: If the model gives no offsets, or the image is refused.
        ExplainedError: If the model has no offsets, or no such instance or keypoint.
    """
    if model.draw_offsets is None:
        raise HTTPException(422, model.why_no_offsets)
    image = read_image(upload, model.inferencer.read_image, limits)
    return model.draw_offsets(image, instance, keypoint)


def _check_length(frames: float, title: str, frame_step: int, limits: Limits) -> None:
    if frames > limits.max_frames:
        raise HTTPException(
            413,
            f'{title}: expected at most {limits.max_frames} frames (every n-th of the video, '
            f'n = {frame_step}), found more. Cut the video, or process fewer of its frames.',
        )


def _to_prediction(image: Array, result: Result, options: Options) -> Prediction:
    result = result[result.scores > options.score_thr]
    fields = result.to_dict()
    if options.visualize:
        drawn = result.plot(options.score_thr, options.kpt_thr, image=image)
        jpeg = encode_image(drawn, f'{result["source"]}.jpg')
        fields['visualization'] = f'data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}'
    return Prediction.model_validate(fields)
