"""Public checkpoints by name: where they are, what their publishers say of them, their config."""

import difflib
import functools
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .utils.errors import ExplainedError

FILE = Path(__file__).with_name('models.json')
_CHECKPOINT_SUFFIXES = ('.pth', '.pt', '.pkl', '.ckpt')


class UnknownModelError(ExplainedError, ValueError):
    """No model has this name."""


class ModelEntry(BaseModel):
    """A model of the index.

    Attributes:
        title: Architecture and schedule.
        framework: Framework that trained it, and whose converter reads the file;
            'multitask_refine' is this project.
        config: Config of this project for the converted weights, relative to its root.
        url: Address of the published file; None for a model that is made of others, or is in the
            repository.
        checksum: Algorithm, and the first digits of the file's digest as the publisher gives them
            in its name.
        combines: Names of the two networks that run as one: boxes and keypoints are the first's,
            masks the second's.
        license: License of the weights.
        source: Page of the publisher with these facts.
        dataset: Data of ``results``.
        results: AP in percent as published.
    """

    model_config = ConfigDict(extra='forbid', frozen=True)

    title: str
    framework: Literal['detectron2', 'torchvision', 'mmdet', 'multitask_refine']
    config: str
    url: Annotated[str, Field(pattern='^https?://')] | None = None
    checksum: Annotated[str, Field(pattern='^(md5|sha256):[0-9a-f]{6,}$')] | None = None
    combines: tuple[str, str] | None = None
    license: str
    source: str
    dataset: str | None = None
    results: dict[str, float] = {}


@functools.cache
def load_index() -> dict[str, ModelEntry]:
    """Return all models by their names."""
    return {
        name: ModelEntry.model_validate(entry)
        for name, entry in json.loads(FILE.read_text()).items()
    }


def find_model(name: str) -> ModelEntry:
    """Return the model of a name.

    Args:
        name (str): As in :func:`load_index`.

    Raises:
        UnknownModelError: If there is none; names the most similar ones.
    """
    index = load_index()
    if name in index:
        return index[name]
    raise UnknownModelError(
        f'{name}: expected the name of a model, a config (.py) with its checkpoint, or an '
        f'exported model (.onnx or .xml), found {_explain_name(name)}'
    )


def _explain_name(name: str) -> str:
    """Say what was given in the place of a model's name, and what to do."""
    suffix = Path(name).suffix.lower()
    if suffix in _CHECKPOINT_SUFFIXES:
        return f'a checkpoint alone. Put its config before it: CONFIG.py {name}'
    if suffix in ('.onnx', '.xml'):
        return (
            'an exported model. `multitask predict`, `track` and `serve` run it, and in Python '
            'multitask_runtime.OnnxInferencer.'
        )
    if Path(name).exists():
        return 'another file or a folder. The model comes first, the inputs follow.'
    close = difflib.get_close_matches(name, load_index(), 3, 0.5)
    hint = f'Did you mean {" or ".join(close)}?' if close else '`multitask models` lists them.'
    return f'no such name. {hint}'
