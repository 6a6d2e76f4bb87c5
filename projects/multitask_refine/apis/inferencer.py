"""Use a trained network on pictures, folders, videos and cameras."""

from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Tuple, Union

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer as MMEngineInferencer
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

# Importing the engine puts the safe loader in the place of MMEngine's.
from multitask_refine.engine.patches import safe_checkpoint  # noqa: F401
from multitask_refine.models import prepare_for_inference
from multitask_refine.utils.errors import ConfigError
from multitask_runtime.base_inferencer import BaseInferencer
from multitask_runtime.drawing import KPT_THR, MASK_ALPHA
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.resize import limit_aspect
from multitask_runtime.io.results import to_result
from multitask_runtime.utils.progress import Progress

from .image_loader import ImageFile
from .settings import (
    choose_device,
    find_dataset_meta,
    find_joint_shift,
    find_keypoint_head,
    load_config,
    split_pipeline,
)


class MultitaskInferencer(BaseInferencer, MMEngineInferencer):
    """Find people in pictures and videos.

    The pictures go through the test pipeline of the config and through
    ``model.test_step``, as in tools/test.py.

    Args:
        config (str | Path | Config): The config that the network was
            trained with.
        checkpoint (str | Path): Its weights, all of them.
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA where
            there is one. Defaults to 'auto'.
        show_progress (bool): Tell on stderr how far it is. Defaults to True.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        DamagedCheckpointError, UnsafeCheckpointError: If the checkpoint is
            cut short, or holds more than weights.
        ConfigError: If the weights are of another network, config and
            checkpoint contradict each other, or there is no such device.

    Examples:
        >>> inferencer = MultitaskInferencer(config, checkpoint)
        >>> result = inferencer('photo.jpg', out_dir='outputs')[0]
        >>> result['keypoints'].shape
        (2, 17, 2)
    """

    def __init__(
        self,
        config: Union[str, Path, Config],
        checkpoint: Union[str, Path],
        device: str = 'auto',
        show_progress: bool = True,
    ) -> None:
        init_default_scope('mmdet')
        super().__init__(
            model=load_config(config),
            weights=str(checkpoint),
            device=choose_device(device),
            scope='mmdet',
            show_progress=show_progress,
        )
        prepare_for_inference(self.model)
        self.joint_shift = find_joint_shift(self.cfg)

    @property
    def dataset_meta(self) -> dict:
        """dict: Classes; of a network with a keypoint head also joints,
        skeleton, colours and OKS sigmas, and ``category_metas`` if classes
        have keypoints of their own."""
        meta = self.model.dataset_meta
        if find_keypoint_head(self.model) is None:
            return dict(classes=meta['classes'])
        return meta

    def postprocess(self, frame: Frame, sample: DetDataSample) -> dict:
        """Describe what the network says of an image, see ``to_result``."""
        people = sample.pred_instances.cpu().numpy()
        return to_result(frame, dict(people.items()), self.joint_shift, self.dataset_meta)

    def _results(
        self, frames: Iterable[Frame], batch_size: int, report: Progress
    ) -> Iterator[Tuple[Frame, dict]]:
        for batch in self._batches(frames, batch_size, report):
            yield from self._find(batch, report)

    def _find(
        self, batch: List[Tuple[Frame, dict]], report: Progress
    ) -> Iterator[Tuple[Frame, dict]]:
        """Yield the results of a batch; if it fails, those of each image."""
        results = None
        try:
            samples = self.forward(self.collate_fn([data for _, data in batch]))
            results = [
                (frame, self.postprocess(frame, sample))
                for (frame, _), sample in zip(batch, samples)
            ]
        except Exception as error:  # the other images go on
            if len(batch) == 1:
                frame = batch[0][0]
                report.fail(frame.source, frame.title, error)
                return
        # Not within the handler, whose error keeps the batch in memory.
        if results is None:
            for item in batch:
                yield from self._find([item], report)
        else:
            yield from results

    def _prepare(self, image: np.ndarray) -> dict:
        """Send an image, (H, W, 3) BGR uint8, through the pipeline."""
        stretched = limit_aspect(image)
        data = self.pipeline(dict(img=stretched, img_id=0))
        if stretched is not image:
            sample = data['data_samples']
            factor = np.divide(stretched.shape[1::-1], image.shape[1::-1])
            sample.set_metainfo(
                dict(ori_shape=image.shape[:2], scale_factor=tuple(factor * sample.scale_factor))
            )
        return data

    def _batches(
        self, frames: Iterable[Frame], batch_size: int, report: Progress
    ) -> Iterator[List[Tuple[Frame, dict]]]:
        """Batches of one size of image.

        The border that a smaller image would get in a batch changes what
        is found in it a little; results must not depend on the neighbours.
        """
        batch = []
        for frame in frames:
            try:
                data = self._prepare(frame.image)
            except Exception as error:  # the other images go on
                report.fail(frame.source, frame.title, error)
                continue
            if batch and data['inputs'].shape != batch[0][1]['inputs'].shape:
                yield batch
                batch = []
            batch.append((frame, data))
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    # ---- what BaseInferencer builds from the config

    def _init_pipeline(self, cfg: Config) -> Callable:
        """The test pipeline from the array of an image on."""
        load, rest = split_pipeline(cfg)
        self.read_image = ImageFile(load)
        array = dict(type='mmdet.LoadImageFromNDArray', to_float32=load.get('to_float32', False))
        return Compose([array, *rest])

    def _init_collate(self, cfg: Config) -> Callable:
        # MMEngine's own warns about a scope that has no such functions.
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """Take its settings; MMEngine's own visualizer is not needed."""
        settings = cfg.get('visualizer') or {}
        self.kpt_thr = settings.get('kpt_thr', KPT_THR)
        self.mask_alpha = settings.get('mask_alpha', MASK_ALPHA)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict, cfg: Config) -> None:
        """Load all weights, and learn the names of classes and joints."""
        try:
            _load_checkpoint_to_model(model, checkpoint, strict=True)
        except RuntimeError as error:
            raise ConfigError(
                f"{error}\nThese are not the weights of this config's "
                f'network ({Path(cfg.filename or "config").name}). Use the '
                'config that it was trained with.'
            ) from None
        model.dataset_meta = find_dataset_meta(cfg, checkpoint, model)
