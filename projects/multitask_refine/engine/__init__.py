from . import cpu_distribution  # noqa: F401
from .launch import add_common_options, load_config
from .reproducible_loop import ReproducibleTrainLoop
from .results_file import describe_run, describe_training, write_results
from .resume import ResumeError, ResumeHook
from .safe_checkpoint import (DamagedCheckpointError, UnsafeCheckpointError,
                              load_checkpoint_file)
from .safe_pickle import load_arrays

__all__ = [
    'DamagedCheckpointError', 'ReproducibleTrainLoop', 'ResumeError',
    'ResumeHook', 'UnsafeCheckpointError', 'add_common_options',
    'describe_run', 'describe_training', 'load_arrays',
    'load_checkpoint_file', 'load_config', 'write_results'
]
