"""Find the checkpoint that a fine-tuning starts from."""

from pathlib import Path

from mmengine.config import Config

from multitask_refine.engine import ConfigError, load_checkpoint_file

ROOT = Path(__file__).resolve().parents[3]


def find_base(base: str | None = None, from_scratch: bool = False) -> tuple[str | None, list[str]]:
    """Find the checkpoint to start from and the keypoints it was trained on.

    Args:
        base: Path of a checkpoint; None is the pretrained base.
        from_scratch: Start from random weights.

    Returns:
        Absolute path of the checkpoint, None for random weights, and the names
        of its keypoints.

    Raises:
        ConfigError: If the checkpoint is missing.
    """
    if from_scratch:
        return None, []
    path = Path(
        base or ROOT / Config.fromfile(ROOT / 'configs/_base_/base_checkpoint.py').load_from
    )
    if not path.is_file():
        raise ConfigError(
            f'{path}: expected the checkpoint to start from, found no such '
            'file. Name one by --base CHECKPOINT, or start from random '
            'weights by --from-scratch.'
        )
    meta = load_checkpoint_file(str(path), 'cpu').get('meta') or {}
    names = (meta.get('dataset_meta') or {}).get('keypoint_id2name') or {}
    return str(path.resolve()), list(names.values())
