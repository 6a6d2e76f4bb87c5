"""Inference with a trained model on images, folders, videos and cameras."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer as MMEngineInferencer
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from multitask_refine.engine.inference_settings import (
    choose_device,
    find_dataset_meta,
    find_keypoint_shift,
    split_pipeline,
)
from multitask_refine.models import prepare_for_inference
from multitask_refine.pretrained import prepare_model
from multitask_refine.utils.config import read_config, require_settings
from multitask_refine.utils.errors import ConfigError
from multitask_runtime.base_inferencer import BaseInferencer
from multitask_runtime.drawing import KPT_THR, MASK_ALPHA
from multitask_runtime.io.frames import Frame
from multitask_runtime.io.resize import limit_aspect
from multitask_runtime.result import Result, to_result
from multitask_runtime.utils.progress import Progress

from .image_loader import ImageFile


class MultitaskInferencer(BaseInferencer, MMEngineInferencer):
    """Predict boxes, masks and keypoints in images and videos.

    Images go through the test pipeline of the config and ``model.test_step``, as in
    tools/test.py.

    Args:
        config (str | Path | Config): The config that the model was trained with, or, without a
            checkpoint, the name of a public model such as 'keypoint-rcnn_r50_fpn_3x', which is
            downloaded and converted at its first use (`multitask models` lists them).
        checkpoint (str | Path, optional): All of its weights.
        device (str): 'cpu', 'cuda', 'cuda:1' and so on; 'auto' is CUDA where it is available.
            Defaults to 'auto'.
        show_progress (bool): Whether to show the progress on stderr. Defaults to True.

    Raises:
        FileNotFoundError: If config or checkpoint does not exist.
        DamagedCheckpointError: If the checkpoint is truncated or corrupted.
        UnsafeCheckpointError: If the checkpoint holds more than weights.
        ConfigError: If the weights are of another model, config and checkpoint contradict each
            other, or the device is not available.
        UnknownModelError: If there is no public model of this name.
        DownloadError: If its file cannot be downloaded, or is not what its publisher says.

    Examples:
        >>> inferencer = MultitaskInferencer(config, checkpoint)
        >>> result = inferencer('photo.jpg', out_dir='outputs')[0]
        >>> result['keypoints'].shape
        (2, 17, 2)
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str = 'auto',
        show_progress: bool = True,
    ) -> None:
        init_default_scope('mmdet')
        if checkpoint is None:
            if isinstance(config, Config) or str(config).endswith('.py'):
                name = config.filename if isinstance(config, Config) else config
                raise ConfigError(
                    f'{name or "config"}: expected a config and its checkpoint, found no '
                    'checkpoint. Name the weights.'
                )
            config, checkpoint = prepare_model(str(config), show_progress)
        cfg = config if isinstance(config, Config) else read_config(config)
        require_settings(cfg, 'model')
        super().__init__(
            model=cfg,
            weights=str(checkpoint),
            device=choose_device(device),
            scope='mmdet',
            show_progress=show_progress,
        )
        prepare_for_inference(self.model)
        self.keypoint_shift = find_keypoint_shift(self.cfg)

    @property
    def dataset_meta(self) -> dict:
        """dict: Metainfo of the data, of a model without a keypoint head only the classes.

        Keypoints, skeleton, colors and OKS sigmas, and ``category_metas`` if classes have
        keypoints of their own.
        """
        meta, roi_head = self.model.dataset_meta, getattr(self.model, 'roi_head', None)
        has_keypoints = getattr(roi_head, 'keypoint_head', None) is not None
        return meta if has_keypoints else dict(classes=meta['classes'])

    def postprocess(self, frame: Frame, sample: DetDataSample) -> Result:
        """Convert a prediction to a result, see ``to_result``.

        Args:
            frame (Frame): The image.
            sample (DetDataSample): Has ``pred_instances``.
        """
        instances = sample.pred_instances.cpu().numpy()
        return to_result(frame, dict(instances.items()), self.keypoint_shift, self.dataset_meta)

    def _results(
        self, frames: Iterable[Frame], batch_size: int, progress: Progress
    ) -> Iterator[tuple[Frame, Result]]:
        """Group the frames by input size, and predict batch by batch.

        The padding that a smaller image would get in a batch changes its predictions slightly;
        results must not depend on the other images of a batch.
        """
        batch = []
        for frame in frames:
            start = perf_counter()
            try:
                data = self._preprocess(frame.image)
            except Exception as error:  # the other images continue
                progress.fail(frame.source, frame.title, error)
                continue
            if batch and data['inputs'].shape != batch[0][1]['inputs'].shape:
                yield from self._predict(batch, progress)
                batch = []
            batch.append((frame, data, perf_counter() - start))
            if len(batch) == batch_size:
                yield from self._predict(batch, progress)
                batch = []
        if batch:
            yield from self._predict(batch, progress)

    def _preprocess(self, image: np.ndarray) -> dict:
        """Send an image, (H, W, 3) BGR uint8, through the pipeline."""
        stretched = limit_aspect(image)
        data = self.pipeline(dict(img=stretched, img_id=0))
        if stretched is not image:
            sample = data['data_samples']
            factor = np.divide(stretched.shape[1::-1], image.shape[1::-1])  # (w, h)
            sample.set_metainfo(
                dict(ori_shape=image.shape[:2], scale_factor=tuple(factor * sample.scale_factor))
            )
        return data

    def _predict(
        self, batch: list[tuple[Frame, dict, float]], progress: Progress
    ) -> Iterator[tuple[Frame, Result]]:
        """Yield the results of a batch; if it fails, those of each image alone.

        The items are frame, preprocessed data, and the seconds that preprocessing took.
        """
        results = None
        try:
            start = perf_counter()
            samples = self.forward(self.collate_fn([data for _, data, _ in batch]))
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()  # else its time would count as postprocessing
            inference = (perf_counter() - start) / len(batch)
            results = []
            for (frame, _, preprocess), sample in zip(batch, samples, strict=True):
                start = perf_counter()
                result = self.postprocess(frame, sample)
                result.set_speed(preprocess, inference, perf_counter() - start)
                results.append((frame, result))
        except Exception as error:  # the other images continue
            if len(batch) == 1:
                frame = batch[0][0]
                progress.fail(frame.source, frame.title, error)
                return
        # Outside of the handler, whose error keeps the batch in memory.
        if results is None:
            for item in batch:
                yield from self._predict([item], progress)
        else:
            yield from results

    # The methods below override those by which MMEngine's BaseInferencer reads the config.

    def _init_pipeline(self, cfg: Config) -> Callable:
        """Build the test pipeline, starting from an image array."""
        load, rest = split_pipeline(cfg)
        self.read_image = ImageFile(load)
        array = dict(type='mmdet.LoadImageFromNDArray', to_float32=load.get('to_float32', False))
        return Compose([array, *rest])

    def _init_collate(self, cfg: Config) -> Callable:
        # MMEngine's own warns that the scope has no such functions.
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """Take the settings of the visualizer, which itself is not needed."""
        settings = cfg.get('visualizer') or {}
        self.kpt_thr = settings.get('kpt_thr', KPT_THR)
        self.mask_alpha = settings.get('mask_alpha', MASK_ALPHA)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict, cfg: Config) -> None:
        """Load all weights and set the metainfo of the model."""
        try:
            _load_checkpoint_to_model(model, checkpoint, strict=True)
        except RuntimeError as error:
            raise ConfigError(
                f"{error}\nThese are not the weights of this config's "
                f'model ({Path(cfg.filename or "config").name}). Use the '
                'config that it was trained with.'
            ) from None
        model.dataset_meta = find_dataset_meta(cfg, checkpoint, model)
