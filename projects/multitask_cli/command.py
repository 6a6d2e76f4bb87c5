"""Commands: options with several values, examples in the help, errors and exit status."""

import functools
import importlib.util
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click


class Command(click.Command):
    """Command whose options may take several values, and whose help has examples.

    ``--cfg-options A=1 B=2`` and repeatable options with choices, such as ``--vis-backends
    tensorboard wandb``, take any number of values, as in MMEngine; options of click do not.

    Args:
        examples (Sequence[str]): Commands that the help shows.
        kwargs: As in ``click.Command``.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault('context_settings', dict(help_option_names=['-h', '--help']))
        super().__init__(*args, **kwargs)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with options of several values repeated before each of them."""
        repeated = {
            name: param
            for param in self.params
            if isinstance(param, click.Option) and param.multiple
            for name in param.opts
        }
        return super().parse_args(ctx, list(_repeat_options(args, repeated)))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section('Examples'):
                for example in self.examples:
                    formatter.write(f'{"":{formatter.current_indent}}{example}\n')


def _repeat_options(args: list[str], repeated: dict[str, click.Option]) -> Iterator[str]:
    """Repeat options before each of their values."""
    remaining = list(args)
    while remaining:
        arg = remaining.pop(0)
        yield arg
        if arg in repeated and remaining and not remaining[0].startswith('-'):
            yield remaining.pop(0)
            while remaining and _is_value(remaining[0], repeated[arg]):
                yield from (arg, remaining.pop(0))


def _is_value(arg: str, option: click.Option) -> bool:
    """Return whether a further argument is a value of the option, and not another argument."""
    if isinstance(option.type, click.Choice):
        return arg in option.type.choices
    return option.name == 'cfg_options' and '=' in arg and not arg.startswith('-')


def run(command: click.Command, argv: Sequence[str] | None = None, **options: Any) -> int:
    """Run a command as a tool's ``main``.

    Args:
        command (click.Command): The command.
        argv (Sequence[str], optional): Arguments. Defaults to those of the process.
        options: Further ones of ``click.Command.main``.

    Returns:
        int: The exit status.

    Raises:
        SystemExit: With status 2 for wrong arguments, with a sentence (status 1) for an error
            that the user can fix, with status 130 after Ctrl-C, and silently with status 141,
            as of other programs in a pipe, if nobody reads the output any more.
    """
    try:
        status = command.main(argv, standalone_mode=False, **options)
        sys.stdout.flush()  # or a pipe that was closed is noticed when Python exits
    except SystemExit as error:
        # Click turns the error of any pipe into status 1, and replaces sys.stdout.
        if error.code == 1 and isinstance(error.__context__, BrokenPipeError):
            raise _exit_of_broken_pipe(error.__context__) from None
        raise
    except BrokenPipeError as error:
        raise _exit_of_broken_pipe(error) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.Abort:
        raise SystemExit(128 + signal.SIGINT) from None
    except OSError as error:
        if error.errno is None:  # not an error of the system
            raise
        from multitask_runtime.utils.errors import explain_os_error

        raise SystemExit(explain_os_error(error)) from None
    return status if isinstance(status, int) else 0


def _exit_of_broken_pipe(error: BrokenPipeError) -> SystemExit:
    """Return the exit of a program that SIGPIPE ends, if the broken pipe is stdout.

    SIGPIPE itself stays ignored: a server outlives the connections of its clients, and a run
    completes its files.
    """
    from multitask_runtime.utils.errors import explain_os_error

    stdout = sys.__stdout__
    if stdout is None:
        return SystemExit(explain_os_error(error))
    poll = select.poll()
    poll.register(stdout, 0)  # a pipe that nobody reads has POLLERR, whatever is asked for
    if not any(events & select.POLLERR for _, events in poll.poll(0)):
        return SystemExit(explain_os_error(error))
    # What is still in the buffer goes nowhere, or Python complains about it at its exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
    return SystemExit(128 + signal.SIGPIPE)


def with_pytorch(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the callback of a verb that needs PyTorch.

    Raises:
        SystemExit: With a sentence, if PyTorch is not installed, or for the errors that
            ``explained_errors`` explains.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        require_pytorch()
        from multitask_refine.utils.errors import explained_errors

        with explained_errors():
            return function(*args, **kwargs)

    return call


def require_pytorch() -> None:
    """Explain how to get PyTorch where it is not installed.

    Raises:
        SystemExit: If it is not.
    """
    if importlib.util.find_spec('torch') is None:
        raise SystemExit(
            'PyTorch is needed for a config and a checkpoint, and is not installed in this '
            'environment. Set one up by make setup (docs/installation.md), or give an exported '
            'MODEL.onnx.'
        )
