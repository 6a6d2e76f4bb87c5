from .launch import add_common_options, load_config
from .results_file import describe_run, write_results
from .safe_checkpoint import (DamagedCheckpointError, UnsafeCheckpointError,
                              load_checkpoint_file)

__all__ = [
    'DamagedCheckpointError', 'UnsafeCheckpointError', 'add_common_options',
    'describe_run', 'load_checkpoint_file', 'load_config', 'write_results'
]
