#!/usr/bin/env python
"""Turn a training checkpoint into one to publish: weights and their origin.

Optimizer, schedule and logs are left out, and the file's name ends in the
first eight digits of its SHA-256. The same input gives the same file.
"""

import argparse
import hashlib
import io
import re
import sys
from pathlib import Path

import torch

from multitask_refine.engine import ConfigError, explained_errors, load_checkpoint_file
from multitask_refine.engine.hooks.checkpoint_hook import AtomicLocalBackend

# What tests and inferencers read, and what says where the weights are from.
_META = (
    'dataset_meta',
    'cfg',
    'experiment_name',
    'seed',
    'iter',
    'epoch',
    'mmengine_version',
    'time',
)
_ABSOLUTE_PATH = re.compile(r"""(['"])/(?:[^'"\n]*/)?([^'"\n/]+/?)\1""")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('in_file', help='checkpoint of a training')
    parser.add_argument('out_file', help='NAME or NAME.pth; NAME-<8 digits>.pth is written')
    parser.add_argument(
        '--dtype',
        choices=['float16', 'float32'],
        default='float16',
        help='of the weights; what float16 cannot hold stays float32. Tests '
        'and trainings load either into float32 (default: float16)',
    )
    return parser.parse_args(argv)


def publish(checkpoint: dict, dtype: torch.dtype, sha256: str) -> bytes:
    """Make the content of the file to publish.

    Args:
        checkpoint (dict): Of a training. Its ``state_dict`` holds the
            averaged weights already if MMEngine's ``EMAHook`` ran: it swaps
            them with those of the training on saving.
        dtype (torch.dtype): Of floating-point weights.
        sha256 (str): Checksum of the training checkpoint, for the meta.

    Returns:
        bytes: What ``torch.load`` reads.
    """
    weights = {}
    for name, value in checkpoint['state_dict'].items():
        if value.is_floating_point():
            cast = value.to(dtype)
            # Running variances may lie beyond float16's 65504.
            value = cast if cast.isfinite().all() else value
        weights[re.sub('^module[.]', '', name)] = value.cpu().clone(
            memory_format=torch.contiguous_format
        )
    meta = {key: checkpoint['meta'][key] for key in _META if key in checkpoint['meta']}
    # No folders of the machine that trained.
    if 'cfg' in meta:
        meta['cfg'] = _ABSOLUTE_PATH.sub(r'\1\2\1', meta['cfg'])
    meta['published_from_sha256'] = sha256
    # Written to a path, the file would hold that path's name.
    content = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=weights), content)
    return content.getvalue()


@explained_errors()
def main(argv: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    args = parse_args(argv)
    source = Path(args.in_file)
    checkpoint = load_checkpoint_file(args.in_file, 'cpu')
    meta, weights = (
        checkpoint.get(key) if isinstance(checkpoint, dict) else None
        for key in ('meta', 'state_dict')
    )
    if (
        not isinstance(meta, dict)
        or not isinstance(weights, dict)
        or not all(map(torch.is_tensor, weights.values()))
    ):
        raise ConfigError(
            f'{source}: expected meta and a state_dict of tensors, as in the '
            'checkpoints that tools/train.py writes, found something else. '
            'Publish an iter_*.pth or best_*.pth of a work dir.'
        )
    content = publish(
        checkpoint, getattr(torch, args.dtype), hashlib.sha256(source.read_bytes()).hexdigest()
    )
    sha256 = hashlib.sha256(content).hexdigest()
    stem = re.sub('[.]pth$', '', args.out_file)
    target = Path(f'{stem}-{sha256[:8]}.pth')
    if target.exists():
        raise ConfigError(
            f'{target}: expected a new file, found one of that name, which '
            'stays as it is. Remove it first, or give another name.'
        )
    AtomicLocalBackend().put(content, target)
    print(f'{target}: {len(content) / 1e6:.2f} MB, SHA-256 {sha256}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
