"""Result of one image: its instances as arrays, drawings, and exports to other tools.

Shape letters: N instances, K keypoints, H, W height and width of the image. Coordinates
are continuous pixels of the original image: pixel ``i`` covers [i, i + 1).
"""

import importlib
import itertools
import json
import sys
import weakref
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .drawing import KPT_THR, MASK_ALPHA, draw_result
from .formats.coco import PIXEL_INDEX, Entry
from .formats.cvat import to_cvat
from .formats.label_studio import to_label_studio
from .formats.labelme import to_labelme
from .formats.segmentations import mask_to_polygons, to_mask, to_rle
from .formats.yolo import Task, to_yolo
from .io.frames import Frame
from .io.image_file import ImageFile, encode_image
from .io.image_viewer import ImageViewer
from .io.results import category_entries, image_entry, to_coco
from .io.video import VideoReader
from .utils.category_meta import keypoint_mask
from .utils.errors import FormatError, ImageNotKeptError, InputError
from .utils.types import Array, Meta

if TYPE_CHECKING:
    import fiftyone
    import pandas
    import supervision

_TOLERANCE = 1.0  # pixels, of the polygons that are exported for editing
_FIELDS = (
    'bboxes',
    'scores',
    'labels',
    'masks',
    'keypoints',
    'keypoint_scores',
    'keypoints_visible',
    'mask_scores',
    'pose_scores',
    'track_ids',
)


class Result(dict[str, Any]):
    """Instances of one image.

    A result is a dict of its fields, ``source``, ``height``, ``width``, ``bboxes``,
    ``scores``, ``labels`` and so on, and has them as attributes under the names that
    supervision and Ultralytics use. Fields that the model does not predict are missing in
    the dict, and None as attributes.

    An index, slice, list or bool array selects instances: ``result[result.scores > 0.5]``.

    Args:
        fields (Mapping): ``source`` (str), of a video also ``frame`` (int), ``height`` and
            ``width`` in pixels; ``bboxes`` (N, 4) xyxy, ``scores`` (N) and ``labels`` (N);
            depending on the heads ``masks``, N compressed RLEs that JSON can hold,
            ``keypoints`` (N, K, 2) and ``keypoint_scores`` (N, K), NaN for keypoints that
            the category of an instance does not have; depending on the branches
            ``keypoints_visible`` (N, K), ``mask_scores`` (N) and ``pose_scores`` (N), see the
            attributes; ``track_ids`` (N), -1 for none.
        dataset_meta (Mapping): Has ``classes``, for keypoints also ``keypoint_id2name``,
            ``skeleton_links`` and the colors, or ``category_metas`` with these for each class.
        path (str, optional): Path of the image or video file; None for other sources.

    Attributes:
        dataset_meta (Mapping): As given.
        path (str | None): As given.
        speed (dict[str, float]): Milliseconds for this image of ``preprocess`` (resizing),
            ``inference`` (the model, with decoding and masks) and ``postprocess`` (encoding
            the result). Images of a batch share its inference time equally.
        kpt_thr (float): Keypoints with a lower score are neither drawn nor exported as labeled.
        mask_alpha (float): Opacity of the masks in drawings.

    Examples:
        >>> result = inferencer('photo.jpg')[0]
        >>> result.boxes.shape, result.names[0]
        ((2, 4), 'person')
        >>> result[result.scores > 0.5].save('drawn.jpg')
    """

    def __init__(
        self, fields: Mapping[str, Any], dataset_meta: Meta, path: str | None = None
    ) -> None:
        super().__init__(fields)
        self.dataset_meta = dataset_meta
        self.path = path
        self.speed: dict[str, float] = {}
        self.kpt_thr, self.mask_alpha = KPT_THR, MASK_ALPHA
        self._image: Array | weakref.ref[Array] | None = None

    def set_speed(self, preprocess: float, inference: float, postprocess: float) -> None:
        """Set ``speed`` from the seconds that each stage took."""
        stages = dict(preprocess=preprocess, inference=inference, postprocess=postprocess)
        self.speed = {name: 1000 * seconds for name, seconds in stages.items()}

    # Fields

    @property
    def boxes(self) -> Array:
        """np.ndarray: Boxes as x1, y1, x2, y2, shape (N, 4)."""
        boxes: Array = self['bboxes']
        return boxes

    @property
    def scores(self) -> Array:
        """np.ndarray: Scores of the boxes from 0 to 1, shape (N)."""
        scores: Array = self['scores']
        return scores

    @property
    def labels(self) -> Array:
        """np.ndarray: Indices into ``names``, shape (N)."""
        labels: Array = self['labels']
        return labels

    @property
    def masks(self) -> Array | None:
        """np.ndarray | None: Masks, bool, shape (N, H, W), decoded from ``result['masks']``."""
        if 'masks' not in self:
            return None
        masks = np.zeros((self.num_instances, *self.orig_shape), bool)
        for mask, rle in zip(masks, self['masks'], strict=True):
            mask[:] = to_mask(rle, *self.orig_shape)
        return masks

    @property
    def keypoints(self) -> Array | None:
        """np.ndarray | None: x, y of the keypoints, shape (N, K, 2)."""
        return self.get('keypoints')

    @property
    def keypoint_scores(self) -> Array | None:
        """np.ndarray | None: Scores of the keypoints, shape (N, K)."""
        return self.get('keypoint_scores')

    @property
    def keypoints_visible(self) -> Array | None:
        """np.ndarray | None: Predicted visibility 0, 1 or 2 of the keypoints, shape (N, K).

        COCO's numbers: 0 absent, 1 occluded, 2 visible.
        """
        return self.get('keypoints_visible')

    @property
    def mask_scores(self) -> Array | None:
        """np.ndarray | None: Predicted IoU of the masks, shape (N)."""
        return self.get('mask_scores')

    @property
    def pose_scores(self) -> Array | None:
        """np.ndarray | None: Predicted OKS of the poses, shape (N)."""
        return self.get('pose_scores')

    @property
    def track_ids(self) -> Array | None:
        """np.ndarray | None: Track ids, shape (N), -1 for none; None without tracking."""
        return self.get('track_ids')

    @property
    def names(self) -> dict[int, str]:
        """dict[int, str]: Name of each label."""
        return dict(enumerate(self.dataset_meta['classes']))

    @property
    def keypoint_names(self) -> list[str]:
        """list[str]: Names of the K keypoints, empty without a keypoint head."""
        names = self.dataset_meta.get('keypoint_id2name', {})
        return [names[i] for i in range(len(names))]

    @property
    def orig_shape(self) -> tuple[int, int]:
        """tuple[int, int]: Height and width of the image in pixels."""
        return self['height'], self['width']

    @property
    def num_instances(self) -> int:
        """int: N; ``len(result)`` is the number of fields, as of any dict."""
        return len(self['scores'])

    @property
    def file_name(self) -> str:
        """str: Name of the image in exports; a frame of a video has its number in it."""
        name = Path(self.path or self['source']).name
        if 'frame' in self:
            return f'{Path(name).stem}_{self["frame"]:06d}.png'
        return name if self.path else f'{name}.png'

    @property
    def image(self) -> Array:
        """np.ndarray: The image, BGR, uint8, shape (H, W, 3).

        Images and frames of files do not stay in memory with their results: they are read
        again, frames of a video from its beginning.

        Raises:
            ImageNotKeptError: If it is of a stream over the network that has gone on, or of
                a result without a source.
            InputError: If the file cannot be read again, or has changed.
        """
        image = self._image() if isinstance(self._image, weakref.ref) else self._image
        if image is None and self.path is None:
            raise ImageNotKeptError(
                f'{self["source"]}: the image of this result is not in memory any more. Draw '
                'it before the next result is taken, or give the image: plot(image=...)'
            )
        if image is None:
            image = _read_again(str(self.path), self.get('frame'))
            if image.shape[:2] != self.orig_shape:
                height, width = self.orig_shape
                raise InputError(
                    f'{self.path}: expected the image of this result, {width} x {height} '
                    f'pixels, found {image.shape[1]} x {image.shape[0]}. The file has changed; '
                    'run the inference again.'
                )
        return image

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        index = np.atleast_1d(np.arange(self.num_instances)[key])
        selected = Result(self, self.dataset_meta, self.path)
        vars(selected).update(vars(self))
        for name in _FIELDS:
            if name == 'masks' and 'masks' in self:
                selected['masks'] = [self['masks'][i] for i in index]
            elif name in self:
                selected[name] = self[name][index]
        return selected

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        if isinstance(self._image, weakref.ref):  # cannot be pickled
            state['_image'] = None
        return state

    def __repr__(self) -> str:
        height, width = self.orig_shape
        frame = f', frame {self["frame"]}' if 'frame' in self else ''
        fields = ', '.join(name for name in _FIELDS if name in self)
        return (
            f'Result({self["source"]}{frame}, {width} x {height} pixels, '
            f'{self.num_instances} instances: {fields})'
        )

    # Drawings

    def plot(
        self,
        score_thr: float = 0.3,
        kpt_thr: float | None = None,
        mask_alpha: float | None = None,
        image: Array | None = None,
    ) -> Array:
        """Draw boxes, masks and skeletons into the image.

        Args:
            score_thr (float): Instances must have a higher score. Defaults to 0.3.
            kpt_thr (float, optional): Keypoints with a lower score are not drawn. Defaults
                to ``kpt_thr`` of the result.
            mask_alpha (float, optional): Opacity of the masks. Defaults to ``mask_alpha`` of
                the result.
            image (np.ndarray, optional): Draw into this image, BGR, uint8, shape (H, W, 3).
                Defaults to ``image`` of the result.

        Returns:
            np.ndarray: A new image, BGR, uint8, shape (H, W, 3).

        Raises:
            ImageNotKeptError: See ``image``.
            InputError: See ``image``; or if the given image has another shape.
        """
        if image is None:
            image = self.image
        elif image.shape != (*self.orig_shape, 3):
            raise InputError(
                f'image: expected the shape {(*self.orig_shape, 3)} of the image of this result, '
                f'found {image.shape}'
            )
        return draw_result(
            image,
            self,
            self.dataset_meta,
            score_thr,
            self.kpt_thr if kpt_thr is None else kpt_thr,
            self.mask_alpha if mask_alpha is None else mask_alpha,
        )

    def show(self, **options: Any) -> None:
        """Show the drawing, in a notebook below the cell, otherwise in a window until a key.

        Args:
            options: As in :meth:`plot`.

        Raises:
            NoWindowError: If there is no screen to show it on.
        """
        ipython = sys.modules.get('IPython')
        if ipython and ipython.get_ipython():
            png = encode_image(self.plot(**options), 'plot.png')
            ipython.display.display(ipython.display.Image(png))
            return
        viewer = ImageViewer()
        viewer.show(self.plot(**options), is_moving=False)
        viewer.close()

    def save(self, path: str | Path, exist_ok: bool = False, **options: Any) -> Path:
        """Write the drawing as an image file.

        Args:
            path (str | Path): The file; its suffix is the format. Missing folders are made.
            exist_ok (bool): Whether a file of this name may be replaced. Defaults to False.
            options: As in :meth:`plot`.

        Returns:
            Path: The file.

        Raises:
            FileExistsError: If there is a file of this name.
            InputError: If OpenCV cannot write the format or size.
        """
        path = Path(path).expanduser()
        if path.exists() and not exist_ok:
            raise FileExistsError(
                f'{path}: expected the name of a new file, found one that exists. Name another '
                'file, or replace it: exist_ok=True'
            )
        if self.path and path.exists() and path.samefile(self.path):
            raise FileExistsError(
                f'{path}: expected another file than the image itself. Name another file.'
            )
        content = encode_image(self.plot(**options), path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def crop(self, margin: float = 0.0) -> list[Array]:
        """Cut the instances out of the image.

        Args:
            margin (float): Enlarge each box by this share of its width and height on each
                side, within the image. Defaults to 0.

        Returns:
            list[np.ndarray]: N images, BGR, uint8, of all pixels that a box touches. A box
            outside of the image gives an image without pixels.

        Raises:
            ImageNotKeptError: See ``image``.
            InputError: See ``image``.
        """
        image, (height, width) = self.image, self.orig_shape
        sides = np.tile(self.boxes[:, 2:] - self.boxes[:, :2], 2)  # (N, 4): w, h, w, h
        corners = self.boxes + margin * sides * [-1, -1, 1, 1]
        first = np.floor(corners[:, :2]).clip(0, [width, height]).astype(int)
        last = np.ceil(corners[:, 2:]).clip(0, [width, height]).astype(int)
        return [
            image[top:bottom, left:right].copy()
            for (left, top), (right, bottom) in zip(first, last, strict=True)
        ]

    def _repr_png_(self) -> bytes | None:
        """Return the drawing as PNG for notebooks, None if the image is gone."""
        try:
            return encode_image(self.plot(), 'plot.png')
        except (ImageNotKeptError, InputError):
            return None

    # Exports

    def to_dict(self) -> dict[str, Any]:
        """Return the result in plain types that JSON can hold.

        Returns:
            dict: ``source``, ``path``, of a video ``frame``, ``height``, ``width``,
            ``names``, ``keypoint_names``, ``speed`` and ``instances``: for each ``label``,
            ``name``, ``score``, ``bbox`` xyxy and as far as predicted ``mask`` (COCO's
            compressed RLE), ``keypoints`` (K of x, y, score; None for keypoints that the
            category does not have), ``keypoints_visible`` (K of 0, 1 or 2),
            ``mask_score``, ``pose_score`` and ``track_id``.
        """
        labels = self.labels.tolist()
        instances = [
            dict(label=label, name=self.names[label], score=score, bbox=bbox)
            for label, score, bbox in zip(
                labels, self.scores.tolist(), self.boxes.tolist(), strict=True
            )
        ]
        for name, field, convert in (
            ('masks', 'mask', dict),
            ('track_ids', 'track_id', int),
            ('mask_scores', 'mask_score', float),
            ('pose_scores', 'pose_score', float),
        ):
            for instance, value in zip(instances, self.get(name, ()), strict=False):
                instance[field] = convert(value)
        for instance, visible in zip(instances, self.get('keypoints_visible', ()), strict=False):
            instance['keypoints_visible'] = visible.tolist()
        if 'keypoints' in self:
            points = np.dstack([self['keypoints'], self['keypoint_scores']])  # (N, K, 3)
            for instance, rows in zip(instances, points, strict=True):
                known = np.isfinite(rows).all(1)
                instance['keypoints'] = [
                    row if ok else None for row, ok in zip(rows.tolist(), known, strict=True)
                ]
        return dict(
            {name: value for name, value in self.items() if name not in _FIELDS},
            path=self.path,
            names=self.names,
            keypoint_names=self.keypoint_names,
            speed=self.speed,
            instances=instances,
        )

    def to_json(self, indent: int | None = None) -> str:
        """Return :meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_df(self) -> 'pandas.DataFrame':
        """Return a pandas data frame with a row for each instance.

        Returns:
            pandas.DataFrame: Columns ``source``, of a video ``frame``, ``label``, ``name``,
            ``score``, ``x1``, ``y1``, ``x2``, ``y2`` and as far as predicted ``mask_area``
            in pixels, ``mask_score``, ``pose_score``, ``track_id``, and for each keypoint
            ``NAME_x``, ``NAME_y``, ``NAME_score`` and ``NAME_visible``.

        Raises:
            FormatError: If pandas is not installed.
        """
        columns: dict[str, Any] = dict(source=[self['source']] * self.num_instances)
        if 'frame' in self:
            columns['frame'] = self['frame']
        columns.update(label=self.labels, name=[self.names[int(i)] for i in self.labels])
        columns.update(score=self.scores)
        columns.update(zip(('x1', 'y1', 'x2', 'y2'), self.boxes.T, strict=True))
        if 'masks' in self:
            columns['mask_area'] = [int(to_mask(m, *self.orig_shape).sum()) for m in self['masks']]
        for name in ('mask_scores', 'pose_scores', 'track_ids'):
            if name in self:
                columns[name.removesuffix('s')] = self[name]
        if 'keypoints' in self:
            for i, name in enumerate(self.keypoint_names):
                columns[f'{name}_x'], columns[f'{name}_y'] = self['keypoints'][:, i].T
                columns[f'{name}_score'] = self['keypoint_scores'][:, i]
                if 'keypoints_visible' in self:
                    columns[f'{name}_visible'] = self['keypoints_visible'][:, i]
        return _import('pandas', 'to_df').DataFrame(columns)

    def to_coco(self, image_id: int = 1) -> dict[str, Any]:
        """Return the result as the content of a COCO file of one image.

        Args:
            image_id (int): Id of the image. Defaults to 1.

        Returns:
            dict: ``images``, ``annotations`` (with ``score``; keypoints as x, y, score by
            pixel index) and ``categories``, as in ``predictions.json`` of the demos.
        """
        annotations = to_coco(self, self.dataset_meta)
        return dict(
            images=[image_entry(self, self.file_name, image_id)],
            annotations=[
                dict(entry, id=number, image_id=image_id, iscrowd=0)
                for number, entry in enumerate(annotations, 1)
            ],
            categories=category_entries(self.dataset_meta),
        )

    def to_yolo(
        self, task: Task | None = None, kpt_thr: float | None = None, save_conf: bool = False
    ) -> str:
        """Return the result as the text of a YOLO label file (Ultralytics).

        Args:
            task (str, optional): 'pose', 'segment' or 'detect'. Defaults to 'pose' of a
                model with keypoints, otherwise to 'segment' or 'detect'.
            kpt_thr (float, optional): Keypoints with a lower score are written as not
                labeled. Defaults to ``kpt_thr`` of the result.
            save_conf (bool): Whether each line ends with the score. Defaults to False.

        Raises:
            FormatError: If the model predicts no masks or keypoints, which the task needs.
        """
        if task is None:
            task = 'pose' if 'keypoints' in self else 'segment' if 'masks' in self else 'detect'
        needed: Mapping[str, str] = dict(pose='keypoints', segment='masks')
        if task in needed:
            self._require(needed[task], f'labels for {task}')
        image, annotations, categories = self._as_annotations(kpt_thr)
        return to_yolo(image, annotations, categories, task, save_conf=save_conf)

    def to_labelme(self, kpt_thr: float | None = None) -> dict[str, Any]:
        """Return the result as the content of a LabelMe file.

        Masks become polygons within a pixel of their border; those with holes stay masks.

        Args:
            kpt_thr (float, optional): Keypoints with a lower score are left out. Defaults to
                ``kpt_thr`` of the result.
        """
        return to_labelme(*self._as_annotations(kpt_thr))

    def to_cvat(self, kpt_thr: float | None = None) -> str:
        """Return the result as the text of a CVAT file (XML 1.1 for images).

        Args:
            kpt_thr (float, optional): Keypoints with a lower score are outside. Defaults to
                ``kpt_thr`` of the result.
        """
        image, annotations, categories = self._as_annotations(kpt_thr)
        return to_cvat([(image, annotations)], categories)

    def to_label_studio(
        self, kpt_thr: float | None = None, image_url: str | None = None
    ) -> dict[str, Any]:
        """Return the result as a Label Studio task with predictions.

        ``multitask_runtime.formats.labeling_config`` makes the configuration of its project.

        Args:
            kpt_thr (float, optional): Keypoints with a lower score are left out. Defaults to
                ``kpt_thr`` of the result.
            image_url (str, optional): Where Label Studio finds the image. Defaults to its
                file name.
        """
        image, annotations, categories = self._as_annotations(kpt_thr)
        return to_label_studio(
            image, annotations, categories, kind='predictions', image_url=image_url
        )

    def to_supervision(
        self, kind: Literal['detections', 'keypoints'] = 'detections'
    ) -> 'supervision.Detections | supervision.KeyPoints':
        """Return the result as an object of supervision.

        Args:
            kind (str): 'detections' for ``sv.Detections`` with boxes, masks and track ids,
                'keypoints' for ``sv.KeyPoints``. Defaults to 'detections'.

        Raises:
            FormatError: If supervision is not installed, or there are no keypoints.
        """
        if kind not in ('detections', 'keypoints'):
            raise FormatError(f"kind: expected 'detections' or 'keypoints', found {kind!r}")
        if kind == 'keypoints':
            self._require('keypoints', 'sv.KeyPoints')
        sv = _import('supervision', 'to_supervision')
        labels = self.labels.astype(int)
        data = dict(class_name=np.array([self.names[int(i)] for i in labels], str))
        if kind == 'detections':
            detections: supervision.Detections = sv.Detections(
                xyxy=self.boxes.astype(np.float32),
                mask=self.masks,
                confidence=self.scores.astype(np.float32),
                class_id=labels,
                tracker_id=self.track_ids,
                data=data,
            )
            return detections
        scores = self['keypoint_scores'].astype(np.float32)
        keypoints: supervision.KeyPoints = sv.KeyPoints(
            xy=np.nan_to_num(self['keypoints'].astype(np.float32)),
            keypoint_confidence=np.nan_to_num(scores),
            detection_confidence=self.scores.astype(np.float32),
            visible=scores >= self.kpt_thr,  # also leaves out NaN
            class_id=labels,
            data=data,
        )
        return keypoints

    def to_fiftyone(self) -> 'dict[str, fiftyone.Detections | fiftyone.Keypoints]':
        """Return the result as labels of a FiftyOne sample.

        Returns:
            dict: ``detections`` (fo.Detections with masks and track ids) and, of a model
            with keypoints, ``keypoints`` (fo.Keypoints), as of
            ``fo.Sample(path, **result.to_fiftyone())``.

        Raises:
            FormatError: If FiftyOne is not installed.
        """
        fo = _import('fiftyone', 'to_fiftyone')
        size = np.array([self['width'], self['height']], float)
        detections, keypoints = [], []
        for i, (box, label, score) in enumerate(
            zip(self.boxes.astype(float), self.labels, self.scores, strict=True)
        ):
            shared: dict[str, Any] = dict(label=self.names[int(label)])
            if 'track_ids' in self and self['track_ids'][i] >= 0:
                shared['index'] = int(self['track_ids'][i])
            fields: dict[str, Any] = dict(confidence=float(score))
            if 'masks' in self:
                # The mask within the box, as FiftyOne cuts those of COCO.
                left, top, right, bottom = box.round().astype(int).clip(0)
                mask = to_mask(self['masks'][i], *self.orig_shape)
                fields['mask'] = mask[top : max(bottom, top + 1), left : max(right, left + 1)]
            relative = [*(box[:2] / size), *((box[2:] - box[:2]) / size)]
            detections.append(fo.Detection(bounding_box=relative, **shared, **fields))
            if 'keypoints' in self:
                points = [tuple(point) for point in (self['keypoints'][i] / size).tolist()]
                scores = self['keypoint_scores'][i].tolist()
                keypoints.append(fo.Keypoint(points=points, confidence=scores, **shared))
        labels = dict(detections=fo.Detections(detections=detections))
        if 'keypoints' in self:
            labels['keypoints'] = fo.Keypoints(keypoints=keypoints)
        return labels

    def _require(self, field: str, purpose: str) -> None:
        if field not in self:
            raise FormatError(
                f'{purpose}: expected a result with {field}, found one with '
                f'{", ".join(name for name in _FIELDS if name in self)}. The model predicts no '
                f'{field}; use one that does, or another export.'
            )

    def _as_annotations(
        self, kpt_thr: float | None
    ) -> tuple[Entry, list[Entry], dict[int, Entry]]:
        """Return image, annotations and categories as of a COCO annotation file.

        Keypoints get the predicted visibility, without a prediction 2, and 0 below the threshold;
        masks without holes become polygons.
        """
        kpt_thr = self.kpt_thr if kpt_thr is None else kpt_thr
        content = self.to_coco()
        for annotation in content['annotations']:
            if 'segmentation' in annotation:
                mask = to_mask(annotation['segmentation'], *self.orig_shape)
                polygons, num_holes = mask_to_polygons(mask, _TOLERANCE)
                if not polygons:
                    del annotation['segmentation']
                elif not num_holes:
                    annotation['segmentation'] = polygons
            if 'keypoints' in annotation:
                points = np.reshape(annotation['keypoints'], (-1, 3))
                visible = annotation.pop('keypoints_visible', 2)
                points[:, 2] = np.multiply(visible, points[:, 2] >= kpt_thr)
                annotation['keypoints'] = points.flatten().tolist()
                annotation['num_keypoints'] = int((points[:, 2] > 0).sum())
        categories = {category['id']: category for category in content['categories']}
        return content['images'][0], content['annotations'], categories


def to_result(
    frame: Frame,
    instances: Mapping[str, Array],
    keypoint_shift: float = 0.5,
    dataset_meta: Meta | None = None,
) -> Result:
    """Convert the predictions of one image into a result.

    Args:
        frame (Frame): The image.
        instances (Mapping[str, np.ndarray]): Predictions: ``bboxes``, ``scores``,
            ``labels``, and depending on the heads ``masks`` (N, H, W) bool,
            ``keypoints`` and ``keypoint_scores``; depending on the branches
            ``keypoints_visible``, ``mask_scores`` and ``pose_scores``.
        keypoint_shift (float): Distance of the model's keypoints from those of COCO
            files in pixels, as in ``MultitaskCocoMetric``. Defaults to 0.5.
        dataset_meta (dict, optional): Dataset meta.

    Returns:
        Result: All of them, in continuous pixels of the original image.
    """
    fields: dict[str, Any] = dict(source=frame.source.title)
    if frame.index is not None:
        fields['frame'] = frame.index
    fields['height'], fields['width'] = frame.image.shape[:2]
    for name in ('bboxes', 'scores', 'labels'):
        fields[name] = instances[name]
    if 'masks' in instances:
        fields['masks'] = [to_rle(mask) for mask in instances['masks']]
    if 'keypoints' in instances:
        fields['keypoints'] = instances['keypoints'] + (PIXEL_INDEX - keypoint_shift)
        fields['keypoint_scores'] = instances['keypoint_scores']
        if dataset_meta and 'category_metas' in dataset_meta:
            absent = ~keypoint_mask(dataset_meta, instances['labels'])
            fields['keypoints'][absent] = np.nan
            fields['keypoint_scores'] = np.where(absent, np.nan, instances['keypoint_scores'])
    for name in ('keypoints_visible', 'mask_scores', 'pose_scores'):
        if name in instances:
            fields[name] = instances[name]
    kind = frame.source.kind
    path = str(frame.source.value) if kind in ('image', 'video') else None
    result = Result(fields, dataset_meta or dict(classes=()), path)
    # What can be read again, or comes from the network without end, is not held by results.
    result._image = frame.image if kind in ('array', 'camera') else weakref.ref(frame.image)
    return result


def _read_again(path: str, frame: int | None) -> Array:
    """Read an image, or a frame of a video by its index."""
    if frame is None:
        return ImageFile()(path)
    with closing(VideoReader(path)) as reader:
        image = next(itertools.islice(reader, frame, None), None)
    if image is None:
        raise InputError(f'{path}: expected a frame {frame}, found fewer. The file has changed.')
    return image


def _import(package: str, method: str) -> Any:
    """Import the package that an export needs.

    Raises:
        FormatError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise FormatError(
            f'{package} is needed for {method}() and cannot be imported ({error}). Install it: '
            f'pip install {package}'
        ) from None
