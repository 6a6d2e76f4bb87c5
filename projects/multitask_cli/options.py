"""Arguments and options that several verbs share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class ScoreType(click.FloatRange):
    """Score of an instance: from 0 to 1, and a number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Refuse NaN, too, which no range excludes."""
        score: float = super().convert(value, param, ctx)
        if math.isnan(score):
            self.fail('expected a number from 0 to 1, found nan', param, ctx)
        return score


SCORE = ScoreType(0, 1)


def combine(*decorators: Decorator) -> Decorator:
    """Combine options into one decorator; the help shows them in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(decorators):
            function = each(function)
        return function

    return decorate


cfg_options = click.option(
    '--cfg-options',
    multiple=True,
    metavar='NAME=VALUE...',
    help='Settings that override the config, e.g. model.backbone.depth=101 or key="[a,b]".',
)

run_options = combine(
    click.option(
        '--work-dir', help='Folder of logs and results.  [default: work_dirs/CONFIG_NAME]'
    ),
    cfg_options,
    click.option(
        '--launcher',
        type=click.Choice(['none', 'pytorch', 'slurm', 'mpi']),
        default='none',
        help='Launcher of the processes of a distributed run.',
    ),
    # torchrun sets LOCAL_RANK; older launchers pass either spelling.
    click.option('--local-rank', '--local_rank', type=int, default=0, hidden=True),
)

_RUNTIME_DEFAULTS = dict(backend='auto', precision='float32', threads=None)
runtime_options = combine(
    click.option(
        '--backend',
        type=click.Choice(['auto', 'onnxruntime', 'openvino']),
        default='auto',
        show_default=True,
        help='What runs an exported model; auto is openvino on the CPU where it is installed, '
        'else onnxruntime.',
    ),
    click.option(
        '--precision',
        type=click.Choice(['float32', 'bfloat16']),
        default='float32',
        show_default=True,
        help='What an exported model is computed in; bfloat16 needs openvino and a processor '
        'that has it.',
    ),
    click.option(
        '--threads',
        type=click.IntRange(min=1),
        help="Threads for an exported model.  [default: the backend's choice]",
    ),
)

inference_options = combine(
    click.option(
        '--out-dir',
        default='outputs',
        show_default=True,
        help='Folder for visualized images and videos, under the names of the inputs, and for '
        "predictions.json; '' writes nothing.",
    ),
    click.option(
        '--score-thr',
        '--pred-score-thr',
        type=SCORE,
        default=0.3,
        show_default=True,
        help='Instances with a lower score are not drawn.',
    ),
    click.option(
        '--kpt-thr',
        type=float,
        help="Keypoints with a lower score are not drawn.  [default: the config's, else 0.2]",
    ),
    click.option(
        '--device',
        default='auto',
        show_default=True,
        help='cpu, cuda or cuda:1; auto is cuda where available.',
    ),
    click.option(
        '--batch-size',
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help='Images that go through the model at once: of a checkpoint those of one size, of '
        'an exported model all.',
    ),
    runtime_options,
    click.option('--show', is_flag=True, help='Show them in a window; Esc or q ends the run.'),
)


def pop_runtime_options(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the values of ``runtime_options`` from those of a verb, and return them."""
    return {name: options.pop(name) for name in _RUNTIME_DEFAULTS}


def refuse_runtime_options(model: str, runtime: Mapping[str, Any]) -> None:
    """Refuse ``runtime_options`` for a model that is no exported file.

    Args:
        model (str): The model, for the message.
        runtime (Mapping[str, Any]): From :func:`pop_runtime_options`.

    Raises:
        click.UsageError: If one is not the default.
    """
    for name, default in _RUNTIME_DEFAULTS.items():
        if runtime[name] != default:
            raise click.UsageError(
                f'--{name}: expected an exported model (.onnx or .xml), found {model}, which '
                'PyTorch runs'
            )


def parse_cfg_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse settings as MMEngine does.

    Args:
        pairs (Sequence[str]): NAME=VALUE, with numbers, strings, and lists or tuples of them.

    Raises:
        click.UsageError: If a value cannot be parsed.
    """
    from multitask_refine.utils.config import parse_settings
    from multitask_refine.utils.errors import ConfigError

    try:
        return parse_settings(pairs)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
