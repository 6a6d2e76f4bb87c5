"""What the command line tools have in common: options and config."""
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmengine.config import Config, DictAction


def add_common_options(parser: ArgumentParser) -> None:
    """Add the options that OpenMMLab's tools share."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and results (default: work_dirs/CONFIG_NAME)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings that override the config, e.g. model.backbone.depth=101'
        ' or key="[a,b]"')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run are started')
    # torchrun sets LOCAL_RANK; older launchers pass either spelling.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: Namespace) -> Config:
    """Read the config file and apply the common options.

    Args:
        args (Namespace): Has what :func:`add_common_options` adds.

    Returns:
        Config: With ``work_dir`` and ``launcher`` set, ready for
        ``Runner.from_cfg``. For a network without a mask head the pipelines
        load no masks.

    Raises:
        FileNotFoundError: If there is no such config file.
    """
    if not Path(args.config).is_file():
        raise FileNotFoundError(
            f'{args.config}: there is no such config file; the project\'s '
            'own are in configs/multitask_refine/')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if not cfg.get('model', {}).get('roi_head', {}).get('mask_head'):
        for split in ('train', 'val', 'test'):
            _skip_masks(cfg.get(f'{split}_dataloader'))
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs') / Path(args.config).stem)
    return cfg


def _skip_masks(part: object) -> None:
    """Switch off the loading of masks in all pipelines of a dataloader's
    config, also in those of wrapped datasets."""
    if isinstance(part, dict):
        if part.get('type') == 'LoadMultitaskAnnotations':
            part.setdefault('with_mask', False)
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for each in part:
            _skip_masks(each)
