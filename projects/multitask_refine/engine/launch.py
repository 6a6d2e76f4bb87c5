"""What the command line tools have in common: options, config, devices."""
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
import torch.distributed as dist
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
        ``Runner.from_cfg``, also on a machine without CUDA.

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
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs') / Path(args.config).stem)
    if args.launcher != 'none' and not torch.cuda.is_available():
        _distribute_on_cpu(cfg)
    return cfg


def _distribute_on_cpu(cfg: Config) -> None:
    """MMEngine's launchers expect CUDA: on the CPU join the processes by
    gloo before it does, and wrap the model without a device."""
    if not dist.is_initialized():
        dist.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False)
