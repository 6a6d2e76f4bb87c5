"""Backends of the visualizer that write to the work dir, and to no server unless told to."""

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization import AimVisBackend, MLflowVisBackend, WandbVisBackend
from mmengine.visualization.vis_backend import force_init_env

# As the user set it: MLflow overwrites the variable with the store of the first run.
_TRACKING_URI = os.environ.get('MLFLOW_TRACKING_URI')


@VISBACKENDS.register_module()
class OfflineWandbVisBackend(WandbVisBackend):
    """MMEngine's W&B backend, offline unless ``WANDB_MODE`` says otherwise.

    MMEngine's own records every Python file below the current folder, those of a virtual
    environment included, and numbers the points of a curve by the calls that log. This one
    records no code, and draws the curves over the iteration.

    Args:
        save_dir (str): ``WORK_DIR/TIME/vis_data``, or another folder; W&B's ``wandb`` is in it.
        init_kwargs (dict, optional): Arguments of ``wandb.init``. ``name`` defaults to that of the
            work dir and the time.
        kwargs: As in MMEngine's ``WandbVisBackend``.
    """

    def __init__(self, save_dir: str, init_kwargs: dict | None = None, **kwargs: Any) -> None:
        init_kwargs = dict(init_kwargs or {})
        if init_kwargs.setdefault('mode', os.environ.get('WANDB_MODE', 'offline')) == 'offline':
            # W&B reports its own errors to a server, offline too.
            os.environ.setdefault('WANDB_ERROR_REPORTING', 'false')
        folder, time = _find_run(save_dir)
        init_kwargs.setdefault('name', os.environ.get('WANDB_NAME', f'{folder.name}/{time}'))
        kwargs.setdefault('define_metric_cfg', [dict(name='*', step_metric='iteration')])
        super().__init__(save_dir, init_kwargs, **kwargs)

    @force_init_env
    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Record the config.

        Args:
            config (Config): The config.
            kwargs: Unused.
        """
        self._wandb.config.update(config.to_dict())

    @force_init_env
    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Record the values of an iteration.

        Args:
            scalar_dict (dict): The values by their names.
            step (int): The iteration. Defaults to 0.
            file_path (str, optional): Unused.
            kwargs: Unused.
        """
        self._wandb.log(dict(scalar_dict, iteration=step), commit=self._commit)


@VISBACKENDS.register_module()
class LocalMLflowVisBackend(MLflowVisBackend):
    """MMEngine's MLflow backend, with a database in the work dir.

    MMEngine's default is a folder of files, which MLflow 3 refuses. ``MLFLOW_TRACKING_URI`` and
    ``MLFLOW_EXPERIMENT_NAME`` choose another store, and a name other than that of the work dir. A
    run is named after its time.
    MLflow's usage statistics are disabled, unless ``MLFLOW_DISABLE_TELEMETRY`` says otherwise.

    Args:
        save_dir (str): ``WORK_DIR/TIME/vis_data``, or a folder to write to.
        kwargs: As in MMEngine's ``MLflowVisBackend``. ``artifact_suffix`` defaults to none: the
            logs are in the work dir already.
    """

    def __init__(self, save_dir: str, **kwargs: Any) -> None:
        os.environ.setdefault('MLFLOW_DISABLE_TELEMETRY', 'true')
        folder, time = _find_run(save_dir)
        kwargs.setdefault('exp_name', os.environ.get('MLFLOW_EXPERIMENT_NAME', folder.name))
        # MLflow draws names by Python's generator: with the same seed the same name.
        kwargs.setdefault('run_name', os.environ.get('MLFLOW_RUN_NAME', time))
        kwargs.setdefault('artifact_suffix', ())
        if _TRACKING_URI:
            kwargs.setdefault('tracking_uri', _TRACKING_URI)
        elif 'tracking_uri' not in kwargs:
            kwargs['tracking_uri'] = f'sqlite:///{folder}/mlflow.db'
            kwargs.setdefault('artifact_location', (folder / 'mlartifacts').as_uri())
        super().__init__(save_dir, **kwargs)


@VISBACKENDS.register_module()
class LocalAimVisBackend(AimVisBackend):
    """MMEngine's Aim backend, with its repository in the work dir and not the current folder.

    Args:
        save_dir (str): ``WORK_DIR/TIME/vis_data``, or a folder to write to.
        init_kwargs (dict, optional): Arguments of ``aim.Run``, such as another ``repo``, or an
            ``experiment`` that is not named after the work dir.
    """

    def __init__(self, save_dir: str, init_kwargs: dict | None = None) -> None:
        folder, _ = _find_run(save_dir)
        folder.mkdir(parents=True, exist_ok=True)
        defaults = dict(repo=str(folder), experiment=folder.name)
        super().__init__(save_dir, dict(defaults, **(init_kwargs or {})))


def _find_run(save_dir: str) -> tuple[Path, str]:
    """Find the work dir and time in ``WORK_DIR/TIME/vis_data``; another folder is itself both."""
    folder = Path(save_dir).absolute()
    if folder.name == 'vis_data':
        return folder.parents[1], folder.parent.name
    return folder, folder.name
