"""A stand-in for CuPy, on NumPy: it refuses what CuPy refuses, and the promotion of dtypes that nobody asked for."""

from __future__ import annotations

import functools
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


def unwrapped(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(unwrapped(part) for part in value)
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"a value from main memory on the device: {value!r}")
    return value.values if isinstance(value, DeviceArray) else value


def on_device(name: str, function: Any) -> Any:
    """The function for device arrays; it fails where a dtype is promoted without saying so."""

    def call(*arguments: Any, **options: Any) -> DeviceArray:
        floats = {a.dtype for a in arguments if isinstance(a, DeviceArray) and a.dtype.kind == "f"}
        result = function(*map(unwrapped, arguments), **options)
        if "dtype" not in options and name != "astype" and floats and result.dtype.kind == "f":
            assert {result.dtype} == floats, f"{name} makes {result.dtype} of {floats}"
        return DeviceArray(result)

    return call


class DeviceArray:
    """An array on a device."""

    __array_ufunc__ = None
    __iter__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.shape, self.dtype, self.ndim = self.values.shape, self.values.dtype, self.values.ndim

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array")

    def __bool__(self) -> bool:
        raise TypeError("implicit transfer of a truth value")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> DeviceArray:
        return DeviceArray(self.values[unwrapped(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        assert not isinstance(value, DeviceArray) or value.dtype == self.dtype
        self.values[unwrapped(index)] = unwrapped(value)

    def __getattr__(self, name: str) -> Any:
        if name not in ("take", "sum", "max", "argmax", "astype", "reshape", "transpose", "copy"):
            raise AttributeError(name)
        return functools.partial(on_device(name, getattr(np.ndarray, name)), self)

    @property
    def T(self) -> DeviceArray:
        return DeviceArray(self.values.T)

    def get(self) -> np.ndarray:
        return self.values.copy()


OPERATORS = ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "matmul", "neg", "invert")
for operator in (*OPERATORS, "lt", "le", "gt", "ge", "eq"):
    function = on_device(operator, getattr(np.ndarray, f"__{operator}__"))
    setattr(DeviceArray, f"__{operator}__", functools.partialmethod(function))


def segment_sum_kernel(inputs: str, outputs: str, operation: str, name: str) -> Any:
    def run(*arguments: DeviceArray) -> DeviceArray:
        values, row, start, stop = (argument.values for argument in arguments)
        sums = [[values.ravel()[r + i : r + j].sum() for i, j in zip(start, stop, strict=True)] for r in row[:, 0]]
        return DeviceArray(np.array(sums, values.dtype))

    assert inputs == "raw T values, int64 row, int64 start, int64 stop"
    return run


def uninitialized(shape: Any, dtype: Any) -> DeviceArray:
    """What nobody may read."""
    return DeviceArray(np.full(shape, {"f": np.nan, "u": 255}.get(np.dtype(dtype).kind, -1), dtype))


def device_module(free: int = 1 << 40) -> ModuleType:
    """The module `cupy` of a device with so many bytes free."""
    cupy = ModuleType("cupy")
    names = (
        "exp expm1 log log1p sin cos tanh sqrt absolute where ones_like zeros_like empty_like isfinite append zeros "
        "arange"
    )
    functions = {name: on_device(name, getattr(np, name)) for name in names.split()}
    vars(cupy).update(functions, ndarray=DeviceArray, ElementwiseKernel=segment_sum_kernel)
    vars(cupy).update(asarray=lambda values: values if isinstance(values, DeviceArray) else DeviceArray(values.copy()))
    vars(cupy).update(empty=uninitialized)
    device = SimpleNamespace(mem_info=(free, 1 << 40))
    vars(cupy).update(cuda=SimpleNamespace(is_available=lambda: True, Device=lambda: device))
    vars(cupy).update(get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0))
    return cupy
