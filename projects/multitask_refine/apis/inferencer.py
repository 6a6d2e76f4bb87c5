"""Use a trained network on pictures, folders, videos and cameras."""
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Tuple, Union

import numpy as np
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

# Importing the engine puts the safe loader in the place of MMEngine's.
from ..engine import safe_checkpoint  # noqa: F401
from ..visualization import MultitaskVisualizer
from .drawing import Window, draw
from .frames import Frame, ImageFile, count_images, read_frames
from .inputs import Input, Source, collect
from .outputs import OutputFolder, earlier_results
from .progress import Report
from .results import to_result
from .settings import (check_joints, choose_device, find_dataset_meta,
                       find_joint_shift, load_config, split_pipeline)
from .tracking import Tracker

Inputs = Union[Input, List[Input]]


class MultitaskInferencer(BaseInferencer):
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
        ValueError: If the weights are of another network, the joints are
            not those of the dataset's meta, or there is no such device.

    Examples:
        >>> inferencer = MultitaskInferencer(config, checkpoint)
        >>> result = inferencer('photo.jpg', out_dir='outputs')[0]
        >>> result['keypoints'].shape
        (2, 17, 2)
    """

    def __init__(self,
                 config: Union[str, Path, Config],
                 checkpoint: Union[str, Path],
                 device: str = 'auto',
                 show_progress: bool = True) -> None:
        init_default_scope('mmdet')
        super().__init__(
            model=load_config(config),
            weights=str(checkpoint),
            device=choose_device(device),
            scope='mmdet',
            show_progress=show_progress)
        self.joint_shift = find_joint_shift(self.cfg)

    @property
    def dataset_meta(self) -> dict:
        """dict: Classes, joints, skeleton, colours and OKS sigmas."""
        return self.model.dataset_meta

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

    def stream(self,
               inputs: Inputs,
               batch_size: int = 1,
               score_thr: float = 0.3,
               kpt_thr: Optional[float] = None,
               out_dir: Optional[Union[str, Path]] = None,
               show: bool = False,
               track: bool = False) -> Iterator[dict]:
        """Find the people of one image after the other.

        Of videos and files only a batch or two is in memory at a time.

        Args:
            inputs: The path of a picture or a video, an array (H, W, 3) BGR
                uint8, a folder of pictures, a glob pattern, the index of a
                camera, or a list of these.
            batch_size (int): Images that go through the network at once, as
                long as they have one size. Defaults to 1.
            score_thr (float): People with a lower score are not drawn and
                not tracked; results have all. Defaults to 0.3.
            kpt_thr (float, optional): Joints with a lower score are not
                drawn. Defaults to the config's visualizer's.
            out_dir (str | Path, optional): Write pictures and videos here
                under the names of the inputs, and ``predictions.json`` in
                COCO's format.
            show (bool): Show them in a window. Defaults to False.
            track (bool): Number the people of each video. Defaults to False.

        Yields:
            dict: A result, see ``to_result``; with ``track`` it has
            ``track_ids`` (N), too, -1 for those that are not tracked. What
            cannot be read has none and is named on stderr.

        Raises:
            InputError: If an input is of a wrong kind, or none can be read.
            FileNotFoundError: If there is no such path.
            NoWindowError: If there is no screen to show pictures on.
            ValueError: If the batch size is not positive, or there is no
                video to track in.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size: expected 1 or more, got '
                             f'{batch_size}')
        sources = collect(inputs, leave_out=earlier_results(out_dir))
        if track and not any(source.is_moving for source in sources):
            raise ValueError('track: expected a video or camera, found '
                             f'pictures only ({sources[0].title})')
        # All that is wrong with the options is said here, not at next().
        outputs = out_dir and OutputFolder(out_dir, sources,
                                           self.dataset_meta)
        window = Window() if show else None
        return self._run(sources, batch_size, track, outputs, window,
                         dict(score_thr=score_thr, kpt_thr=kpt_thr))

    def visualize(self,
                  image: np.ndarray,
                  result: dict,
                  score_thr: float = 0.3,
                  kpt_thr: Optional[float] = None) -> np.ndarray:
        """Draw a result into its image.

        Args:
            image (np.ndarray): (H, W, 3) BGR uint8; is left as it is.
            result (dict): What was found in it.
            score_thr (float): People with no higher score are not drawn.
            kpt_thr (float, optional): Joints with a lower score are not
                drawn. Defaults to the config's visualizer's.

        Returns:
            np.ndarray: The picture, (H, W, 3) BGR uint8.
        """
        self.visualizer.kpt_thr = (
            self._default_kpt_thr if kpt_thr is None else kpt_thr)
        return draw(self.visualizer, image, result, score_thr)

    def postprocess(self, frame: Frame, sample: DetDataSample) -> dict:
        """Describe what the network says of an image, see ``to_result``."""
        return to_result(frame, sample, self.joint_shift)

    # ---- the run

    def _run(self, sources: List[Source], batch_size: int, track: bool,
             outputs: Optional[OutputFolder], window: Optional[Window],
             thresholds: dict) -> Iterator[dict]:
        report = Report(
            len(sources), count_images(sources), self.show_progress)
        frames = read_frames(sources, self.read_image, report)
        with ExitStack() as stack:
            if outputs:
                stack.enter_context(outputs)
            if window:
                stack.callback(window.close)
            for frame, result in self._results(frames, batch_size):
                if track and frame.index == 0:
                    tracker = self._new_tracker(thresholds['score_thr'])
                if track and frame.source.is_moving:
                    result['track_ids'] = tracker.update(result)
                if outputs or window:
                    picture = self.visualize(frame.image, result, **thresholds)
                if outputs:
                    outputs.write(frame, picture, result)
                report.step()
                yield result
                if window and not window.show(picture, frame.source.is_moving):
                    break
        report.finish()

    def _results(self, frames: Iterable[Frame],
                 batch_size: int) -> Iterator[Tuple[Frame, dict]]:
        for batch in self._batches(frames, batch_size):
            data = self.collate_fn([data for _, data in batch])
            samples = self.forward(data)
            for (frame, _), sample in zip(batch, samples):
                yield frame, self.postprocess(frame, sample)

    def _batches(self, frames: Iterable[Frame],
                 batch_size: int) -> Iterator[List[Tuple[Frame, dict]]]:
        """Batches of one size of image.

        The border that a smaller image would get in a batch changes what
        is found in it a little; results must not depend on the neighbours.
        """
        batch = []
        for frame in frames:
            data = self.pipeline(dict(img=frame.image, img_id=0))
            if batch and data['inputs'].shape != batch[0][1]['inputs'].shape:
                yield batch
                batch = []
            batch.append((frame, data))
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _new_tracker(self, score_thr: float) -> Tracker:
        return Tracker(self.dataset_meta.get('sigmas'), score_thr)

    # ---- what BaseInferencer builds from the config

    def _init_pipeline(self, cfg: Config) -> Callable:
        """The test pipeline from the array of an image on."""
        load, rest = split_pipeline(cfg)
        self.read_image = ImageFile(load)
        array = dict(
            type='mmdet.LoadImageFromNDArray',
            to_float32=load.get('to_float32', False))
        return Compose([array, *rest])

    def _init_collate(self, cfg: Config) -> Callable:
        # MMEngine's own warns about a scope that has no such functions.
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> MultitaskVisualizer:
        settings = cfg.get('visualizer') or {}
        visualizer = MultitaskVisualizer(**{
            name: settings[name]
            for name in ('kpt_thr', 'mask_alpha') if name in settings
        })
        visualizer.dataset_meta = self.dataset_meta
        self._default_kpt_thr = visualizer.kpt_thr
        return visualizer

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict,
                               cfg: Config) -> None:
        """Load all weights, and learn the names of classes and joints."""
        try:
            _load_checkpoint_to_model(model, checkpoint, strict=True)
        except RuntimeError as error:
            raise ValueError(
                f'{error}\nThese are not the weights of this config\'s '
                f'network ({Path(cfg.filename or "config").name}). Use the '
                'config that it was trained with.') from None
        model.dataset_meta = find_dataset_meta(cfg, checkpoint)
        check_joints(model, model.dataset_meta)
