"""``multitask info``: versions, devices and operators."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import click

from .command import Command

_PACKAGES = (
    'multitask-refine',
    'torch',
    'mmcv',
    'mmengine',
    'mmdet',
    'mmpose',
    'onnx',
    'onnxruntime',
    'openvino',
    'opencv-python-headless',
    'numpy',
)


@click.command(cls=Command, examples=['multitask info'])
def command() -> None:
    """Print versions, devices and operators: what a report of a problem should have."""
    for name, value in describe():
        click.echo(f'{name + ":":24}{value}')


def describe() -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each line."""
    from multitask_runtime.utils.processor import describe_processor

    yield 'Python', f'{platform.python_version()}, {platform.platform(terse=True)}'
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, 'not installed'
    yield 'CPU', f'{describe_processor()}, {len(os.sched_getaffinity(0))} cores'
    for title, describe_package in (
        ('onnxruntime devices', _describe_onnxruntime),
        ('PyTorch devices', _describe_torch),
        ('mmcv operators', _describe_mmcv),
    ):
        try:
            yield title, describe_package()
        except ImportError as error:  # not installed, or built for other versions
            yield title, str(error).splitlines()[0]


def _describe_onnxruntime() -> str:
    import onnxruntime

    return ', '.join(onnxruntime.get_available_providers())


def _describe_torch() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ', '.join(['cpu', *names])


def _describe_mmcv() -> str:
    """Return for which devices the operators were compiled, and by which compiler."""
    from mmcv.ops import get_compiler_version, get_compiling_cuda_version

    cuda = get_compiling_cuda_version()
    return f'CPU{"" if cuda == "not available" else f", CUDA {cuda}"} ({get_compiler_version()})'
