"""The command ``multitask``."""

import difflib
import importlib
from collections.abc import Sequence

import click

from .command import run

# Each verb and the module that has it as ``command``: a new verb is one more line.
VERBS = {
    'predict': 'multitask_cli.predict',
    'track': 'multitask_cli.track',
    'predict-dataset': 'multitask_cli.predict_dataset',
    'serve': 'multitask_cli.serve',
    'train': 'multitask_cli.train',
    'test': 'multitask_cli.test',
    'export': 'multitask_cli.export',
    'convert': 'multitask_cli.convert',
    'check': 'multitask_cli.check',
    'models': 'multitask_cli.models',
    'convert-data': 'multitask_cli.convert_data',
    'info': 'multitask_cli.info',
}


class VerbGroup(click.Group):
    """Group that imports a verb's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of a project: from use to training."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb; None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest similar verbs where there is none of the name."""
        if args and args[0] not in VERBS and not args[0].startswith('-'):
            close = difflib.get_close_matches(args[0], VERBS)
            hint = f'Did you mean {" or ".join(close)}?' if close else f'Verbs: {", ".join(VERBS)}'
            ctx.fail(f'No such verb: {args[0]}. {hint}')
        return super().resolve_command(ctx, args)


@click.group(
    cls=VerbGroup,
    subcommand_metavar='VERB [ARGS]...',
    context_settings=dict(help_option_names=['-h', '--help']),
    epilog='`multitask VERB --help` has the options and examples of a verb.',
)
@click.version_option(package_name='multitask-refine')
def multitask() -> None:
    """Detect people with boxes, masks and keypoints; train, test and export models."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``multitask`` and return its exit status.

    Args:
        argv (Sequence[str], optional): Arguments. Defaults to those of the process.
    """
    return run(multitask, argv, prog_name='multitask')
