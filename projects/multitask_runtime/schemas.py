"""Schemas of the files that users exchange: predictions, results, ONNX metadata.

Nothing in a file is trusted: it is validated before it is drawn, counted or
passed to pycocotools. The readers turn a ``ValidationError`` into one sentence
by :func:`explain`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import NotRequired, TypedDict  # pydantic needs it before Python 3.12

PREDICTIONS_FORMAT = 'multitask_refine predictions'
PREDICTIONS_VERSION = 2
# Names of version 1, and those that took their place.
_RENAMED = dict(joints='keypoints', mirror='flip_indices')


def mismatch(field: str, expected: str, found: object) -> PydanticCustomError:
    """Return the error of a field, whose name is relative to the validated object."""
    return PydanticCustomError(
        'mismatch',
        'expected {expected}',
        dict(field=field, expected=expected, found=_short(found)),
    )


def explain(error: ValidationError) -> str:
    """Return the first error as 'FIELD: expected X, found Y'."""
    return explain_item(error.errors(include_url=False)[0])


def explain_item(first: Mapping[str, Any]) -> str:
    """Return one of pydantic's error items as 'FIELD: expected X, found Y'."""
    place = ''.join(
        f'[{part}]' if isinstance(part, int) else f'.{str(part)[:60]}' for part in first['loc']
    )
    context = first.get('ctx', {})
    expected, found = first['msg'].removeprefix('Input should '), _short(first['input'])
    if first['type'] == 'mismatch':
        place += f'.{context["field"]}' if context['field'] else ''
        expected, found = context['expected'], context['found']
    elif first['type'] == 'missing':
        expected, found = 'a value', 'nothing'
    elif first['type'] == 'literal_error':
        expected = context['expected']
    elif first['type'] in ('too_short', 'too_long'):
        limit = context.get('min_length', context.get('max_length'))
        expected = f'{"at least" if first["type"] == "too_short" else "at most"} {limit} items'
    elif 'UploadFile' in first['msg']:
        expected = f'a file, as by curl -F {first["loc"][0]}=@PATH'
    elif first['type'] in ('model_type', 'model_attributes_type', 'dict_type'):
        expected = 'an object'
    expected = expected.removeprefix('be ').removeprefix('have ')
    return f'{place.lstrip(".") or "the file"}: expected {expected}, found {found}'


def _short(value: object) -> str:
    text = 'nothing' if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def _check_id(value: object) -> object:
    if type(value) is not int and not isinstance(value, str):
        raise mismatch('', 'an id (an integer or a string)', value)
    return value


def _check_rle(counts: str) -> str:
    if not counts or not counts.isascii():
        raise mismatch('', 'the counts of a compressed RLE', counts)
    return counts


Number = Annotated[float, Field(gt=-1e9, lt=1e9, allow_inf_nan=False)]
Metric = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)] | None
ImageId = Annotated[Any, AfterValidator(_check_id)]
Color = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# of the visibility 0, 1 and 2
Probabilities = Annotated[list[Probability], Field(min_length=3, max_length=3)]
_STRICT = ConfigDict(strict=True, extra='allow')


class RLE(TypedDict):
    """Compressed run-length encoding of a mask, as pycocotools writes it."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]  # pydantic's convention
    size: Any  # compared with the image's size once that is known
    counts: Annotated[str, AfterValidator(_check_rle)]


class _Entry(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]  # pydantic's convention
    image_id: ImageId
    category_id: int
    score: Number


class BoxEntry(_Entry):
    """COCO result entry of a box: x, y, width, height in image pixels."""

    bbox: Annotated[list[Number], Field(min_length=4, max_length=4)]


class MaskEntry(_Entry):
    """COCO result entry of a mask; ``mask_score`` is its predicted IoU."""

    segmentation: RLE
    mask_score: NotRequired[Probability]


class KeypointEntry(_Entry):
    """COCO result entry of keypoints: x, y, score of each, by pixel index.

    Branches add of each keypoint the probabilities of COCO's visibility 0, 1 and 2, and
    ``pose_score``, the predicted OKS.
    """

    keypoints: list[Number]
    keypoints_visible_probs: NotRequired[list[Probabilities]]
    pose_score: NotRequired[Probability]


class PredictedImage(BaseModel):
    """Predictions of an image; entry i of every task is of the same instance."""

    model_config = _STRICT
    image_id: ImageId
    file_name: str
    bbox: list[BoxEntry] | None = None
    segm: list[MaskEntry] | None = None
    keypoints: list[KeypointEntry] | None = None


class Keypoints(BaseModel):
    """Names, OKS sigmas and drawing colors of K keypoints."""

    model_config = _STRICT
    names: list[str]
    sigmas: list[Annotated[Number, Field(gt=0)]]
    flip_indices: list[int]
    colors: list[Color]
    skeleton: list[Annotated[list[int], Field(min_length=2, max_length=2)]]
    skeleton_colors: list[Color]

    @model_validator(mode='after')
    def _check(self) -> 'Keypoints':
        count = len(self.names)
        for field, length in (
            ('sigmas', count),
            ('flip_indices', count),
            ('colors', count),
            ('skeleton_colors', len(self.skeleton)),
        ):
            found = len(getattr(self, field))
            if found != length:
                raise mismatch(field, f'{length} values', found)
        for field, indices in (
            ('flip_indices', [[index] for index in self.flip_indices]),
            ('skeleton', self.skeleton),
        ):
            for place, values in enumerate(indices):
                if not all(0 <= value < count for value in values):
                    raise mismatch(
                        f'{field}[{place}]', f'indices of the {count} keypoints', values
                    )
        return self


class Categories(BaseModel):
    """Categories of the network; with ``keypoints`` if each has its own."""

    model_config = _STRICT
    ids: list[int]
    names: list[str]
    keypoints: list[Keypoints] | None = None

    @model_validator(mode='after')
    def _check(self) -> 'Categories':
        for field in ('names', 'keypoints'):
            values = getattr(self, field)
            if values is not None and len(values) != len(self.ids):
                raise mismatch(field, f'{len(self.ids)} values', len(values))
        return self


class AnnotationFile(BaseModel):
    """The annotation file of a test."""

    model_config = _STRICT
    file: str
    sha256: str


class Predictions(BaseModel):
    """Content of a predictions file.

    Attributes:
        run: How the file came about, as in the results file; None after
            ``mim test``.
        metrics: ``<task>_<name>`` in percent; None without ground truth.
        tasks: Some of 'bbox', 'segm' and 'keypoints'.
        image_folder: Folder of the images; None if unknown.
        categories: ``ids`` and ``names``. With ``keypoints`` of each
            category, entries have those of their category, and the
            ``keypoints`` of the file are the union.
        keypoints: Colors are RGB from 0 to 255, ``skeleton`` holds pairs of
            keypoints, ``flip_indices`` the mirrored keypoint of each.
        images: For each task a list of entries in COCO's results format
            (https://cocodataset.org/#format-results).
    """

    model_config = _STRICT
    format: Literal['multitask_refine predictions']
    version: Literal[2]
    run: dict[str, Any] | None
    metrics: dict[str, Number | None]
    tasks: Annotated[list[Literal['bbox', 'segm', 'keypoints']], Field(min_length=1)]
    annotations: AnnotationFile
    image_folder: str | None
    categories: Categories
    keypoints: Keypoints
    images: Annotated[list[PredictedImage], Field(min_length=1)]

    @model_validator(mode='after')
    def _check(self) -> 'Predictions':
        names = self.keypoints.names
        if not names:
            raise mismatch('keypoints.names', 'at least one keypoint', names)
        numbers = dict.fromkeys(self.categories.ids, 3 * len(names))
        for category, own in zip(
            self.categories.ids, self.categories.keypoints or (), strict=False
        ):
            numbers[category] = 3 * len(own.names)
        for index, image in enumerate(self.images):
            lengths = set()
            for task in self.tasks:
                entries = getattr(image, task)
                if entries is None:
                    raise mismatch(f'images[{index}].{task}', 'a list of entries', None)
                lengths.add(len(entries))
                for number, entry in enumerate(entries):
                    place = f'images[{index}].{task}[{number}]'
                    if entry['image_id'] != image.image_id:
                        raise mismatch(
                            f'{place}.image_id', repr(image.image_id), entry['image_id']
                        )
                    category = entry['category_id']
                    if category not in numbers:
                        raise mismatch(f'{place}.category_id', f'one of {[*numbers]}', category)
                    if task != 'keypoints':
                        continue
                    for field, length in (
                        ('keypoints', numbers[category]),
                        ('keypoints_visible_probs', numbers[category] // 3),
                    ):
                        if field in entry and len(entry[field]) != length:
                            raise mismatch(f'{place}.{field}', f'{length} numbers', entry[field])
            if len(lengths) > 1:
                raise mismatch(
                    f'images[{index}]', 'as many entries for each task', sorted(lengths)
                )
        return self


def upgrade_predictions(content: Any) -> Any:
    """Return the content of a predictions file of version 1 in the names of version 2."""
    if not isinstance(content, dict) or content.get('version') != 1:
        return content

    def rename(owner: Any) -> Any:
        if not isinstance(owner, dict):
            return owner
        return {_RENAMED.get(name, name): value for name, value in owner.items()}

    content = rename(dict(content, version=PREDICTIONS_VERSION))
    content['keypoints'] = rename(content.get('keypoints'))
    categories = rename(content.get('categories'))
    if isinstance(categories, dict) and isinstance(categories.get('keypoints'), list):
        categories['keypoints'] = [rename(own) for own in categories['keypoints']]
    return dict(content, categories=categories)


class Run(BaseModel):
    """How a results file came about; pages demand more fields than ``config``."""

    model_config = _STRICT
    config: str
    seed: int | None = None
    command: str | None = None
    checkpoint_sha256: str | None = None
    seconds: float | None = None
    machine: dict[str, Any] | None = None
    stages: dict[str, Any] | None = None
    training_commit: str | None = None
    condition: str | None = None
    rate: float | None = None
    settings: dict[str, Any] | None = None
    protocol: dict[str, Any] | None = None
    training_minutes: float | None = None
    test_minutes: float | None = None
    offsets: dict[str, Any] | None = None
    records: int | None = None
    records_outside: int | None = None


class Results(BaseModel):
    """Content of a results file: metrics by name, and the run."""

    model_config = _STRICT
    __pydantic_extra__: dict[str, Metric]
    run: Run


class OnnxMetadata(BaseModel):
    """Metadata that are needed to run an exported network."""

    model_config = _STRICT
    classes: list[str]
    keypoint_names: list[str]
    skeleton: list[Any]
    keypoint_colors: list[Any]
    skeleton_colors: list[Any]
    sigmas: list[Number]
    resize: dict[str, Any]
    image_backend: str
    keypoint_shift: Number
    mask_threshold: Number | None


class Instance(BaseModel):
    """One instance in a response of the server."""

    label: int = Field(description='Index of the class in `names`')
    name: str = Field(description='Name of the class')
    score: float = Field(description='Score of the box from 0 to 1')
    bbox: list[float] = Field(description='x1, y1, x2, y2')
    mask: RLE | None = Field(default=None, description="Mask as COCO's compressed RLE")
    keypoints: list[list[float] | None] | None = Field(
        default=None, description='x, y, score of each keypoint; null for one that the class lacks'
    )
    keypoints_visible: list[int] | None = Field(
        default=None,
        description='Predicted visibility of each keypoint: 0 absent, 1 occluded, 2 visible',
    )
    mask_score: float | None = Field(default=None, description='Predicted IoU of the mask')
    pose_score: float | None = Field(default=None, description='Predicted OKS of the keypoints')
    track_id: int | None = Field(default=None, description='In videos; -1 for none')


class Prediction(BaseModel):
    """Instances of an image or video frame, by descending score.

    Coordinates are continuous pixels of the original image: pixel i covers i to i + 1.
    """

    source: str = Field(description='Name of the uploaded file')
    frame: int | None = Field(default=None, description='Index of the video frame, from 0')
    time: float | None = Field(default=None, description='Seconds from the beginning of the video')
    height: int = Field(description='Height of the image in pixels')
    width: int = Field(description='Width of the image in pixels')
    names: dict[int, str] = Field(description='Name of each class by its label')
    keypoint_names: list[str] = Field(description='Names of the keypoints, in their order')
    speed: dict[str, float] = Field(description='Milliseconds of each stage')
    instances: list[Instance]
    visualization: str | None = Field(
        default=None,
        description='The image with boxes, masks and skeletons, as a data URL of a JPEG',
    )


class ImagePredictions(BaseModel):
    """Response to a batch of images."""

    model: str = Field(description='Name of the model')
    images: list[Prediction] = Field(description='One for each uploaded image, in their order')


class VideoEnd(BaseModel):
    """Last line of the response to a video that was processed completely."""

    model: str = Field(description='Name of the model')
    frames: int = Field(description='Number of processed frames')


class ServedModelInfo(BaseModel):
    """A model of the server."""

    name: str
    classes: list[str]
    keypoint_names: list[str]
    offsets: str | None = Field(
        description='Why the model gives no picture of its offsets; null if it does'
    )


class Limits(BaseModel):
    """What one request, one client and all clients of the server may use."""

    model_config = ConfigDict(frozen=True)

    max_upload_mb: int = Field(default=32, gt=0, description='Size of a request in MiB')
    max_images: int = Field(default=16, gt=0, description='Images of a request')
    max_pixels: int = Field(
        default=16_000_000, gt=0, description='Pixels of an image or video frame'
    )
    max_frames: int = Field(default=300, gt=0, description='Frames of a video that are processed')
    max_requests: int = Field(default=16, gt=0, description='Requests that are processed or wait')
    max_requests_per_client: int = Field(default=4, gt=0, description='The same, of one address')
    timeout: float = Field(
        default=120.0, gt=0, description='Seconds for a request: upload, waiting and processing'
    )


class ServerInfo(BaseModel):
    """Models and limits of the server."""

    models: list[ServedModelInfo] = Field(description='The first is the default')
    limits: Limits


class ErrorMessage(BaseModel):
    """Response to a request that is refused or failed."""

    detail: str = Field(description='One sentence: what was expected, found, and how to fix it')
