"""A simulated accelerator: a device of its own whose operators compute on the CPU.

It stands in for CUDA on machines without a GPU. Within :class:`SimulatedDevice` a network runs on
the device with real values, but by CUDA's rules: an operator that mixes it with tensors of the CPU
fails, and so does NumPy. Everything that the host waits for on CUDA is recorded with the source
line that asked for it. The module needs PyTorch alone, so that other frameworks can use it.
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import FrameType, ModuleType, SimpleNamespace, TracebackType
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

_NAME = 'lazy'  # a device type that PyTorch knows and has no kernels for
_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXING = (_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_)
# The shape of the result, or a Python number, depends on values.
_DATA_DEPENDENT = {
    _aten._local_scalar_dense: 'item',
    _aten.equal: 'item',
    _aten.nonzero: 'nonzero',
    _aten.masked_select: 'masked_select',
    _aten.repeat_interleave: 'repeat_interleave',
    _aten.bincount: 'bincount',
    _aten._unique: 'unique',
    _aten._unique2: 'unique',
    _aten.unique_dim: 'unique',
    _aten.unique_consecutive: 'unique',
}
# Files that fetch a value for their caller.
_SKIPPED = ('torch.', 'torchvision.', 'contextlib', 'mmengine.structures.', __name__)


class Synchronization(NamedTuple):
    """One moment at which the host waits for the device.

    ``kind`` is 'item' (a Python number is read), 'nonzero', 'boolean index', 'masked_select',
    'unique', 'repeat_interleave', 'bincount', 'nms', 'copy to host' or 'copy from host' (from
    memory that is not pinned, without ``non_blocking``: PyTorch waits for both). ``module``,
    ``function`` and ``line`` are the source outside PyTorch that asked for it; in a backward pass
    the line that started it.
    """

    kind: str
    module: str
    function: str
    line: int


class SimulatedTensor(Tensor):
    """A tensor on the simulated device; ``value`` holds its values on the CPU."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> 'SimulatedTensor':
        """Wrap a tensor of the CPU."""
        tensor = Tensor._make_wrapper_subclass(
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=torch.device(_NAME, 0),
        )
        tensor.value = value
        return tensor

    def __repr__(self, **kwargs: Any) -> str:
        return f'SimulatedTensor({self.value})'

    def tolist(self) -> Any:
        """Copy to the host, and convert to Python numbers."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse to compute outside :class:`SimulatedDevice`."""
        if func is _aten._has_compatible_shallow_copy_type.default:  # asked when .data is set
            return True
        raise RuntimeError(f'{func}: tensors of the simulated device need a SimulatedDevice')


class _BoolType(type):
    def __instancecheck__(cls, tensor: Any) -> bool:
        return isinstance(tensor, SimulatedTensor) and tensor.dtype == torch.bool


class _SimulatedBoolTensor(metaclass=_BoolType):
    """What ``torch.cuda.BoolTensor`` is for CUDA."""


_INDEX_TYPES = dict(IndexType=SimulatedTensor, BoolTypeTensor=_SimulatedBoolTensor)


class SimulatedDevice(TorchDispatchMode):
    """Context manager in which the simulated device exists.

    mmcv's operators run on the device, too, if mmcv was imported before.

    Attributes:
        device (torch.device): The device.
        synchronizations (list[Synchronization]): All so far, in order.
    """

    def __init__(self) -> None:
        """Make the device."""
        super().__init__()
        self.device = torch.device(_NAME, 0)
        self.synchronizations: list[Synchronization] = []
        self._stack = ExitStack()

    def __enter__(self) -> 'SimulatedDevice':
        """Begin, and adapt mmcv's operators and MMEngine's types of indices."""
        # Otherwise torch.tensor(values, device=...) would not reach this mode.
        torch._C._set_only_lift_cpu_tensors(True)
        for name, module in list(sys.modules.items()):
            if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
                self._replace(module, 'ext_module', _Extension(module.ext_module, self))
            if name == 'mmengine.structures.instance_data':  # knows the types of CPU and CUDA
                for kind in ('IndexType', 'BoolTypeTensor'):
                    types = (*getattr(module, kind).__args__, _INDEX_TYPES[kind])
                    self._replace(module, kind, SimpleNamespace(__args__=types))
        super().__enter__()
        return self

    def _replace(self, module: ModuleType, name: str, value: Any) -> None:
        self._stack.enter_context(mock.patch.object(module, name, value))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; put mmcv's operators back."""
        super().__exit__(kind, error, traceback)
        torch._C._set_only_lift_cpu_tensors(False)
        self._stack.close()

    def record(self, kind: str) -> None:
        """Add a synchronization to the list, with the source line that asked for it."""
        frame: FrameType | None = sys._getframe(1)
        while frame and f'{frame.f_globals.get("__name__")}.'.startswith(_SKIPPED):
            frame = frame.f_back
        if frame is None:
            return
        function = frame
        while function.f_code.co_name.endswith(('comp>', 'expr>')) and function.f_back:
            function = function.f_back  # a comprehension has a frame of its own before 3.12
        self.synchronizations.append(
            Synchronization(
                kind, frame.f_globals['__name__'], function.f_code.co_name, frame.f_lineno
            )
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Compute an operator on the CPU by the device's rules."""
        kwargs = dict(kwargs or {})
        packet = func.overloadpacket
        on_device = is_on_device(args, kwargs)
        if func in _COPIES:
            return self._copy(func, args, kwargs)
        if on_device:
            _check_devices(func, packet, args, kwargs)
            if kind := _find_wait(packet, args):
                self.record(kind)
        if kwargs.get('device') is not None:
            on_device = torch.device(kwargs['device']).type == _NAME
            kwargs['device'] = torch.device('cpu')
        result = func(*to_values(args), **to_values(kwargs))
        if on_device and torch.Tag.inplace_view in func.tags:  # such as unsqueeze_
            args[0].data = SimulatedTensor(args[0].value)
        return to_device(result, (args, kwargs)) if on_device else result

    def _copy(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Copy between or within the devices."""
        if func is _aten.copy_.default:
            target, source = args[:2]
            to_simulated = isinstance(target, SimulatedTensor)
            non_blocking = len(args) > 2 and args[2]
        else:
            source, device = args[0], kwargs.pop('device', None)
            to_simulated = isinstance(source, SimulatedTensor)
            if device is not None:
                to_simulated = torch.device(device).type == _NAME
            non_blocking = kwargs.get('non_blocking', False)
        if to_simulated != isinstance(source, SimulatedTensor) and not non_blocking:
            self.record('copy from host' if to_simulated else 'copy to host')
        if func is _aten.copy_.default:
            func(*to_values(args), **kwargs)
            return target
        value = func(*to_values(args), **kwargs)
        if value is to_values(source):  # nothing to convert, but another device
            value = value.clone()
        return SimulatedTensor(value) if to_simulated else value


def is_on_device(*arguments: Any) -> bool:
    """Return whether a tensor among arguments of an operator is on the simulated device."""
    return any(isinstance(each, SimulatedTensor) for each in tree_leaves(arguments))


def to_values(arguments: Any) -> Any:
    """Replace the tensors of the simulated device by their values on the CPU."""
    return tree_map_only(SimulatedTensor, lambda tensor: tensor.value, arguments)


def to_device(results: Any, arguments: Any = ()) -> Any:
    """Put tensors on the simulated device.

    Args:
        results (Any): Tensors on the CPU, in any containers.
        arguments (Any): What they were computed from; the result of an operator in place is the
            argument itself.
    """
    known = {
        id(each.value): each
        for each in tree_leaves(arguments)
        if isinstance(each, SimulatedTensor)
    }
    return tree_map_only(
        Tensor,
        lambda value: known[id(value)] if id(value) in known else SimulatedTensor(value),
        results,
    )


def _check_devices(func: Any, packet: Any, args: tuple, kwargs: dict) -> None:
    """Raise an error if an operator gets tensors of both devices, as CUDA does.

    A scalar may be on the CPU, and so may the indices into a tensor of the device.
    """
    checked: Iterable[Any] = (args, kwargs)
    if packet in _INDEXING and isinstance(args[0], SimulatedTensor):
        checked = args[2:]
    if any(
        isinstance(each, Tensor) and not isinstance(each, SimulatedTensor) and each.dim()
        for each in tree_leaves(checked)
    ):
        devices = [
            str(each.device) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)
        ]
        raise RuntimeError(
            f'{func}: expected all tensors on the same device, found {", ".join(devices)}'
        )


def _find_wait(packet: Any, args: tuple) -> str | None:
    """Return for what an operator of the device makes the host wait, if it does."""
    if packet not in _INDEXING:
        return 'nms' if str(packet) == 'torchvision.nms' else _DATA_DEPENDENT.get(packet)
    indices = [each for each in args[1] if each is not None]
    if not any(isinstance(each, SimulatedTensor) for each in indices):
        return 'copy from host'  # of the indices
    if not any(each.dtype in (torch.bool, torch.uint8) for each in indices):
        return None
    # x[mask] = number is masked_fill on CUDA; the number is a tensor without dimensions here.
    is_fill = packet is not _aten.index and not args[2].dim()
    return None if is_fill else 'boolean index'


class _Extension:
    """mmcv's compiled operators, with tensors of the simulated device.

    They change their arguments in place, as mmcv's CPU kernels do.
    """

    def __init__(self, extension: Any, device: SimulatedDevice) -> None:
        self.extension = extension
        self.device = device

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kernel = _DEFORM_ROI_POOL.get(name) or getattr(self.extension, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not is_on_device(args, kwargs):
                return kernel(*args, **kwargs)
            _check_devices(name, None, args, kwargs)
            if name == 'nms':
                self.device.record('nms')  # its CUDA kernel ends with a masked_select
            return to_device(kernel(*to_values(args), **to_values(kwargs)))

        return call


def _deform_roi_pool_forward(
    x: Tensor, rois: Tensor, offset: Tensor, output: Tensor, **settings: Any
) -> None:
    output.copy_(_pool(x, rois, offset if offset.numel() else None, **settings))


def _deform_roi_pool_backward(
    grad_output: Tensor,
    x: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_x: Tensor,
    grad_offset: Tensor,
    **settings: Any,
) -> None:
    leaves = [x.detach().requires_grad_()]
    if offset.numel():
        leaves.append(offset.detach().requires_grad_())
    with torch.enable_grad():
        pooled = _pool(leaves[0], rois, leaves[1] if offset.numel() else None, **settings)
    grads = torch.autograd.grad(pooled, leaves, grad_output)
    for target, grad in zip((grad_x, grad_offset), grads, strict=False):
        target.copy_(grad)


def _pool(
    x: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    from multitask_refine.ops import deform_roi_pool_by_grid_sample

    return deform_roi_pool_by_grid_sample(
        x, rois, offset, pooled_height, spatial_scale, sampling_ratio, gamma
    )


# mmcv has no CPU kernel of these.
_DEFORM_ROI_POOL: dict[str, Callable[..., None]] = {
    'deform_roi_pool_forward': _deform_roi_pool_forward,
    'deform_roi_pool_backward': _deform_roi_pool_backward,
}
