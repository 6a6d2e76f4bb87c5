"""Hooks, training loop and optimizers, and what tools need to run and describe them."""

from multitask_refine.utils.config import (
    SettingsAction,
    list_evaluators,
    load_config,
    read_config,
    require_settings,
)
from multitask_refine.utils.errors import (
    ConfigError,
    DamagedCheckpointError,
    ExplainedError,
    FileWriteError,
    LoaderWorkerError,
    NonFiniteTrainingError,
    ResumeError,
    TooManyBadImagesError,
    UnsafeCheckpointError,
    explained_errors,
)
from multitask_refine.utils.results_file import (
    describe_command,
    describe_run,
    describe_training,
    write_record,
    write_results,
)
from multitask_refine.utils.safe_checkpoint import load_checkpoint_file
from multitask_refine.utils.safe_pickle import load_arrays

from .consistency import check_consistency
from .hooks import (
    AtomicCheckpointHook,
    BadImagesHook,
    ConsistencyHook,
    KeypointTransferHook,
    OffsetStatisticsHook,
    PartialLoadHook,
    PreemptionHook,
    ResumableEarlyStoppingHook,
    ResumableEMAHook,
    ResumeHook,
    ValLossHook,
    transfer_keypoints,
)
from .optimizers import Bfloat16OptimWrapper, OffsetOptimWrapperConstructor
from .runner import ReproducibleTrainLoop

__all__ = [
    'AtomicCheckpointHook',
    'BadImagesHook',
    'Bfloat16OptimWrapper',
    'ConfigError',
    'ConsistencyHook',
    'DamagedCheckpointError',
    'ExplainedError',
    'FileWriteError',
    'KeypointTransferHook',
    'LoaderWorkerError',
    'NonFiniteTrainingError',
    'OffsetOptimWrapperConstructor',
    'OffsetStatisticsHook',
    'PartialLoadHook',
    'PreemptionHook',
    'ReproducibleTrainLoop',
    'ResumableEMAHook',
    'ResumableEarlyStoppingHook',
    'ResumeError',
    'ResumeHook',
    'SettingsAction',
    'TooManyBadImagesError',
    'UnsafeCheckpointError',
    'ValLossHook',
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
