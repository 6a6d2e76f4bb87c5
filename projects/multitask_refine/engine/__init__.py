from ..errors import ExplainedError, explained_errors
from . import cpu_distribution  # noqa: F401
from .bad_images import BadImagesHook, TooManyBadImagesError
from .checkpoint_hook import KeepingCheckpointHook
from .hooks import OffsetStatisticsHook
from .launch import add_common_options, load_config
from .non_finite import NonFiniteTrainingError
from .optimizers import Bfloat16OptimWrapper
from .preemption import PreemptionHook
from .reproducible_loop import ReproducibleTrainLoop
from .results_file import (describe_command, describe_run, describe_training,
                           write_record, write_results)
from .resume import FileWriteError, ResumeError, ResumeHook
from .safe_checkpoint import (DamagedCheckpointError, UnsafeCheckpointError,
                              load_checkpoint_file)
from .safe_pickle import load_arrays
from .val_loss import ValLossHook
from .worker_restart import WorkersDieError

__all__ = [
    'BadImagesHook', 'Bfloat16OptimWrapper', 'DamagedCheckpointError',
    'ExplainedError', 'FileWriteError', 'KeepingCheckpointHook',
    'NonFiniteTrainingError', 'OffsetStatisticsHook', 'PreemptionHook',
    'ReproducibleTrainLoop', 'ResumeError', 'ResumeHook',
    'TooManyBadImagesError', 'UnsafeCheckpointError', 'ValLossHook',
    'WorkersDieError', 'add_common_options', 'describe_command',
    'describe_run', 'describe_training', 'explained_errors', 'load_arrays',
    'load_checkpoint_file', 'load_config', 'write_record', 'write_results'
]
