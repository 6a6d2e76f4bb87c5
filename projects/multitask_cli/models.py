"""``multitask models``: public models by name; and how the verbs read MODEL [CHECKPOINT]."""

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from .command import Command, with_pytorch


class ModelType(click.ParamType):
    """Model of a verb; completion knows the names of public models."""

    name = 'model'

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete names, and files where no name fits."""
        from multitask_runtime.model_index import load_index

        names = [name for name in load_index() if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or [
            CompletionItem(incomplete, type='file')
        ]


MODEL = ModelType()


@click.command(
    cls=Command,
    examples=[
        'multitask models',
        'multitask models keypoint-rcnn_r50_fpn_3x',
        'multitask models keypoint-rcnn_r50_fpn_3x --download',
    ],
)
@click.argument('name', required=False, type=MODEL)
@click.option(
    '--download',
    is_flag=True,
    help='Download and convert the model now, and print the paths of its config and checkpoint.',
)
def command(name: str | None, download: bool) -> None:
    """List the public models, or what is known of the model NAME.

    The other verbs take these names in the place of a config and a checkpoint. AP is what the
    publishers say. Files are kept in ~/.cache/multitask_refine/models, or in $MULTITASK_CACHE.
    """
    from multitask_runtime.model_index import load_index

    if name is None:
        if download:
            raise click.UsageError('--download: expected the NAME of a model, found none')
        for each, entry in load_index().items():
            results = ', '.join(f'{metric} {value}' for metric, value in entry.results.items())
            click.echo(f'{each:46}{entry.framework:18}{results}'.rstrip())
        return
    check_name(name, None)
    for field, value in load_index()[name].model_dump(exclude_none=True).items():
        if isinstance(value, dict):
            value = ', '.join(f'{metric} {number}' for metric, number in value.items())
        if isinstance(value, tuple):
            value = ', '.join(value)
        if value:
            click.echo(f'{field + ":":12}{value}')
    if download:
        for title, path in zip(('config', 'checkpoint'), resolve(name, None), strict=True):
            click.echo(f'{title + ":":12}{path}')


def check_name(model: str, checkpoint: str | None) -> None:
    """Refuse what is neither a config with a checkpoint nor the name of a public model.

    Args:
        model (str): First argument of a verb.
        checkpoint (str, optional): The checkpoint.

    Raises:
        click.UsageError: If it is a config without a checkpoint.
        SystemExit: With a sentence that suggests similar names.
    """
    from multitask_runtime.model_index import UnknownModelError, find_model

    if checkpoint:
        return
    if model.endswith('.py'):
        raise click.UsageError(
            f'{model}: expected a config and a checkpoint, a file that ends in .onnx alone, or '
            'the name of a public model (`multitask models` lists them)'
        )
    try:
        find_model(model)
    except UnknownModelError as error:
        raise SystemExit(str(error)) from None


@with_pytorch
def resolve(model: str, checkpoint: str | None) -> tuple[str, str]:
    """Return config and checkpoint; of a public model, download and convert it first.

    Args:
        model (str): A config, or the name of a public model.
        checkpoint (str, optional): The config's checkpoint.

    Raises:
        click.UsageError: If a config has no checkpoint.
        SystemExit: With a sentence, if there is no such model, or it cannot be downloaded.
    """
    if checkpoint:
        return model, checkpoint
    check_name(model, checkpoint)
    from multitask_refine.pretrained import prepare_model

    return prepare_model(model)


def split_checkpoint(model: str, rest: Sequence[str]) -> tuple[str | None, list[str]]:
    """Take the checkpoint of a config from the arguments that follow it.

    Args:
        model (str): The first argument.
        rest (Sequence[str]): The others.

    Returns:
        tuple[str | None, list[str]]: The checkpoint, None where the model needs none, and what
        follows it.

    Raises:
        click.UsageError: If the checkpoint or what follows it is missing.
    """
    if not model.endswith('.py'):
        return None, list(rest)
    checkpoint, *others = rest
    if not others:
        raise click.UsageError(
            f'expected CONFIG CHECKPOINT and more, found only {model} {checkpoint}. A config is '
            'followed by its checkpoint.'
        )
    return checkpoint, others
