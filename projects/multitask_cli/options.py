"""Arguments and options that several verbs share."""

import math
from collections.abc import Callable, Sequence
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
        help='Images of one size that go through the model at once.',
    ),
    click.option('--show', is_flag=True, help='Show them in a window; Esc or q ends the run.'),
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
