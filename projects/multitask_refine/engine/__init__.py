from multitask_refine.utils.errors import ConfigError, ExplainedError, explained_errors
from multitask_refine.utils.results_file import (
    describe_command,
    describe_run,
    describe_training,
    write_record,
    write_results,
)

from .hooks import KeypointTransferHook, OffsetStatisticsHook, ResumableEMAHook, transfer_keypoints
from .hooks.bad_images_hook import BadImagesHook, TooManyBadImagesError
from .hooks.checkpoint_hook import AtomicCheckpointHook
from .hooks.consistency_hook import ConsistencyHook, check_consistency
from .hooks.preemption_hook import PreemptionHook
from .hooks.resume_hook import FileWriteError, ResumeError, ResumeHook
from .hooks.val_loss_hook import ValLossHook
from .optimizers import Bfloat16OptimWrapper
from .patches import cpu_distribution  # noqa: F401
from .patches.safe_checkpoint import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
    load_checkpoint_file,
)
from .patches.safe_pickle import load_arrays
from .runner.launch import (
    SettingsAction,
    add_common_options,
    list_evaluators,
    load_config,
    read_config,
    require_settings,
)
from .runner.non_finite import NonFiniteTrainingError
from .runner.reproducible_loop import ReproducibleTrainLoop
from .runner.worker_restart import WorkersDieError

__all__ = [
    'BadImagesHook',
    'Bfloat16OptimWrapper',
    'ConfigError',
    'ConsistencyHook',
    'DamagedCheckpointError',
    'ExplainedError',
    'FileWriteError',
    'AtomicCheckpointHook',
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
