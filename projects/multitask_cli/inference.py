"""Run an inferencer until its inputs, or a signal, end it."""

import functools
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import require_pytorch, with_pytorch
from .models import check_name
from .options import pop_runtime_options, refuse_runtime_options

if TYPE_CHECKING:
    from multitask_runtime.base_inferencer import BaseInferencer
    from multitask_runtime.io.inputs import Input


def run_model(
    inputs: Sequence[str], model: str, checkpoint: str | None, device: str, **options: Any
) -> int:
    """Predict with a model.

    Args:
        inputs (Sequence[str]): Paths, glob patterns, URLs or indices of cameras.
        model (str): An exported model, a config, or the name of a public model.
        checkpoint (str, optional): The config's checkpoint, or an exported model.
        device (str): As of the inferencers.
        options: Those of ``runtime_options``, ``out_dir``, ``show``, and further ones of
            ``BaseInferencer.stream``.

    Returns:
        int: Exit status as of :func:`run_inferencer`.

    Raises:
        SystemExit: With a sentence about what is wrong.
    """
    runtime = pop_runtime_options(options)
    load = find_loader(model, checkpoint, device, runtime)
    if needs_pytorch(model, checkpoint):
        status: int = with_pytorch(run_inferencer)(inputs, load, **options)
        return status
    return run_inferencer(inputs, load, **options)


def needs_pytorch(model: str, checkpoint: str | None) -> bool:
    """Tell whether a model is no exported one."""
    from multitask_runtime.onnx.session import is_exported

    return not is_exported(checkpoint or model)


def find_loader(
    model: str, checkpoint: str | None, device: str, runtime: Mapping[str, Any]
) -> 'Callable[[], BaseInferencer]':
    """Return the function that loads a model; it can be pickled.

    Args:
        model (str): As in :func:`run_model`.
        checkpoint (str, optional): The same.
        device (str): The same.
        runtime (Mapping[str, Any]): From ``pop_runtime_options``.

    Raises:
        click.UsageError: If it is a config without a checkpoint, or an option is for exported
            models only.
        SystemExit: With a sentence, if there is no such model, or PyTorch is not installed.
    """
    if needs_pytorch(model, checkpoint):
        check_name(model, checkpoint)
        refuse_runtime_options(model, runtime)
        require_pytorch()
    return functools.partial(_load, model, checkpoint, device, runtime)


def _load(
    model: str, checkpoint: str | None, device: str, runtime: Mapping[str, Any]
) -> 'BaseInferencer':
    if needs_pytorch(model, checkpoint):
        from multitask_refine.apis import MultitaskInferencer

        return MultitaskInferencer(model, checkpoint, device)
    from multitask_runtime.onnx.inferencer import OnnxInferencer

    return OnnxInferencer(checkpoint or model, device, **runtime)


def run_inferencer(
    inputs: Sequence[str],
    load: Callable[[], 'BaseInferencer'],
    *,
    out_dir: str,
    show: bool,
    score_thr: float,
    **options: Any,
) -> int:
    """Run an inferencer on the inputs until they, or a signal, end it.

    Args:
        inputs (Sequence[str]): Paths, glob patterns, URLs or indices of cameras.
        load (Callable): Loads the inferencer.
        out_dir (str): Folder of the results; '' for none.
        show (bool): Whether to show them in a window.
        score_thr (float): Instances with a lower score are not drawn or counted.
        options: Further ones of ``BaseInferencer.stream``.

    Returns:
        int: Exit status: 0; 1 if an input was skipped; 130 or 143 if the run was
        interrupted by Ctrl-C or SIGTERM, with complete files of what was done before.

    Raises:
        SystemExit: With a sentence about what is wrong.
    """
    from multitask_runtime.io.image_viewer import ImageViewer
    from multitask_runtime.utils.errors import (
        InputError,
        NoWindowError,
        OnnxError,
        explain_os_error,
    )

    sources: list[Input] = [_to_input(each) for each in inputs]
    try:
        if show:
            ImageViewer().close()  # reports a missing screen before the model is loaded
        inferencer = load()
        results = inferencer.stream(
            sources if len(sources) > 1 else sources[0],
            out_dir=out_dir or None,
            show=show,
            score_thr=score_thr,
            **options,
        )
    except OSError as error:
        raise SystemExit(explain_os_error(error)) from None
    except (ValueError, NoWindowError) as error:
        raise SystemExit(str(error)) from None
    status = num_images = num_instances = 0
    with terminate_like_interrupt() as received:
        try:
            for result in results:
                num_images += 1
                num_instances += int((result['scores'] > score_thr).sum())
        except OSError as error:
            raise SystemExit(explain_os_error(error)) from None
        except (InputError, OnnxError) as error:
            raise SystemExit(str(error)) from None
        except KeyboardInterrupt:
            print('Stopped.')
            status = 128 + (received[0] if received else signal.SIGINT)
    print(f'Instances: {num_instances} with a score above {score_thr:g}; images: {num_images}')
    if out_dir:
        print(f'Results: {out_dir}')
    return status or int(bool(inferencer.skipped))


@contextmanager
def terminate_like_interrupt() -> Iterator[list[int]]:
    """Let SIGTERM end a run as Ctrl-C does, so that schedulers get complete files, too.

    Yields:
        list[int]: Receives the signal.
    """
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    # Python sets signal handlers in the main thread only.
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield received
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _to_input(text: str) -> str | int:
    """Return the index of a camera as a number, unless a file has that name."""
    return int(text) if text.isdecimal() and not Path(text).exists() else text
