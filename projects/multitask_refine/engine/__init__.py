from ..errors import ConfigError, ExplainedError, explained_errors
from . import cpu_distribution  # noqa: F401
from .bad_images import BadImagesHook, TooManyBadImagesError
from .checkpoint_hook import KeepingCheckpointHook
from .consistency import ConsistencyHook, check_consistency
from .hooks import KeypointTransferHook, OffsetStatisticsHook, ResumableEMAHook, transfer_keypoints
from .launch import (
    SettingsAction,
    add_common_options,
    list_evaluators,
    load_config,
    read_config,
    require_settings,
)
from .non_finite import NonFiniteTrainingError
from .optimizers import Bfloat16OptimWrapper
from .preemption import PreemptionHook
from .reproducible_loop import ReproducibleTrainLoop
from .results_file import (
    describe_command,
    describe_run,
    describe_training,
    write_record,
    write_results,
)
from .resume import FileWriteError, ResumeError, ResumeHook
from .safe_checkpoint import DamagedCheckpointError, UnsafeCheckpointError, load_checkpoint_file
from .safe_pickle import load_arrays
from .val_loss import ValLossHook
from .worker_restart import WorkersDieError

__all__ = [
    'BadImagesHook',
    'Bfloat16OptimWrapper',
    'ConfigError',
    'ConsistencyHook',
    'DamagedCheckpointError',
    'ExplainedError',
    'FileWriteError',
    'KeepingCheckpointHook',
    'KeypointTransferHook',
    'NonFiniteTrainingError',
    'OffsetStatisticsHook',
    'PreemptionHook',
    'ReproducibleTrainLoop',
    'ResumableEMAHook',
    'ResumeError',
    'ResumeHook',
    'SettingsAction',
    'TooManyBadImagesError',
    'UnsafeCheckpointError',
    'ValLossHook',
    'WorkersDieError',
    'add_common_options',
    'check_consistency',
    'describe_command',
    'describe_run',
    'describe_training',
    'explained_errors',
    'list_evaluators',
    'load_arrays',
    'load_checkpoint_file',
    'load_config',
    'read_config',
    'require_settings',
    'transfer_keypoints',
    'write_record',
    'write_results',
]
