"""Constants of the file as initializers, names that are given once, and scales as operands of Q/DQ nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from edgecc_tflite.ir import Quantization, Tensor

#: What ONNX calls a type; others have no tensors in ONNX.
_TYPES = {
    **{np.dtype(t): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (np.float32, np.float16, np.float64)},
    **{np.dtype(t): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (np.int8, np.int16, np.int32, np.int64)},
    **{np.dtype(t): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (np.uint8, np.uint16, np.uint32)},
    **{np.dtype(t): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (np.uint64, np.bool_)},
    np.dtype(ml_dtypes.int4): onnx.TensorProto.INT4,
    np.dtype(ml_dtypes.uint4): onnx.TensorProto.UINT4,
    np.dtype(ml_dtypes.bfloat16): onnx.TensorProto.BFLOAT16,
}


def onnx_type(dtype: np.dtype[Any]) -> int | None:
    """ONNX's number of a type; None for one that it does not have."""
    return _TYPES.get(dtype.newbyteorder("="))


class _Names:
    """Names that are given once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._suffixes: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        name, count = hint, self._suffixes.get(hint, 1)
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._suffixes[hint] = count
        self._taken.add(name)
        return name


class Shared:
    """What all graphs of one model have in common.

    Attributes:
        initializers: of the main graph, where subgraphs read them, too.
        variables: tensors that keep their values between runs of the file.
        states: names of those that are read.
        captured: names that subgraphs read from around them.
        calls: subgraphs that were entered.
    """

    def __init__(self, variables: set[Tensor]) -> None:
        self.initializers: list[onnx.TensorProto] = []
        self.variables = variables
        self.states: list[str] = []
        self.captured: set[str] = set()
        self.calls = 0
        self._tensors, self._nodes = _Names(), _Names()
        self._known: dict[tuple[Any, ...], str] = {}
        self._kept: list[np.ndarray] = []

    def fresh(self, hint: str) -> str:
        """A name for a tensor: the hint, or with a number behind it if something has that name."""
        return self._tensors.fresh(hint or "tensor")

    def fresh_node(self, hint: str) -> str:
        """A name for a node."""
        return self._nodes.fresh(hint)

    def constant(self, values: np.ndarray, hint: str) -> str:
        """The initializer with these values, an earlier one if it is small and there is one."""
        key = (values.dtype.name, values.shape, values.tobytes()) if values.nbytes <= _SMALL else (id(values),)
        if key not in self._known:
            self._known[key] = self.fresh(hint)
            self._kept.append(values)  # as long as it lives, no other array has its id
            self.initializers.append(_initializer(values, self._known[key]))
        return self._known[key]

    def scales(self, quantization: Quantization, dtype: np.dtype[Any], hint: str) -> list[str]:
        """Scale and zero point as DequantizeLinear reads them."""
        shape: Sequence[int] = () if quantization.scale.size == 1 else (-1,)
        scale = quantization.scale.astype(np.float32).reshape(shape)
        zero_point = quantization.zero_point.astype(dtype).reshape(shape)
        return [self.constant(scale, f"{hint}/scale"), self.constant(zero_point, f"{hint}/zero_point")]


#: Bytes up to which constants are compared.
_SMALL = 256


def _initializer(values: np.ndarray, name: str) -> onnx.TensorProto:
    kind = onnx_type(values.dtype)
    assert kind is not None, values.dtype
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=values.shape)
    if kind in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        tensor.raw_data = _nibbles(values)
    else:
        tensor.raw_data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return tensor


def _nibbles(values: np.ndarray) -> bytes:
    """Two values to a byte, the first one lowest."""
    flat = values.astype(np.int8).reshape(-1).view(np.uint8) & 15
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return bytes((flat[0::2] | (flat[1::2] << 4)).astype(np.uint8).tobytes())
