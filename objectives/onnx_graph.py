"""A network as ONNX bytes in tens of milliseconds, where `torch.onnx.export` takes seconds.

`torch.fx` traces the model down to calls of `torch.nn.functional`, and each call is written by one small
function of the table `WRITERS`, with the weights as initializers under their names in the state dict. So a
layer is added by a function with the signature of the one it writes:

    def _elu(w: Writer, x: Value, alpha: float = 1.0, inplace: bool = False) -> str:
        return w.node("Elu", x, alpha=alpha)

    WRITERS[F.elu] = _elu

A model that cannot be traced, or calls what is not in the table, goes through `torch.onnx.export`.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx, nn

OPSET = 18  # opset 20 makes ONNX Runtime's AveragePool six times slower
IR_VERSION = 8  # the one of opset 18, so that older runtimes load the file too
VIEWS = ("Flatten", "Slice")  # what they put out shares its memory with what they read, in torch

Value = str | Tensor | float
"""A tensor computed in the graph (its name there), a weight, or a number."""

_log = logging.getLogger(__name__)


def to_onnx(model: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """The model in eval mode as an ONNX file of opset 18, weights included. The model is left as it is.

    Args:
        model: float32[batch, *input_shape] -> float32[batch, classes], on any device.
        input_shape: of one example, without the batch.

    Returns:
        A serialised `ModelProto` with input "input" and output "logits", the batch dimension dynamic and
        named "batch".
    """
    model = copy.deepcopy(model).eval().cpu()
    try:
        return _write(model, input_shape)
    except _Unsupported as reason:
        _log.info("torch.onnx.export is used, which takes seconds: %s", reason)
        return _export(model, input_shape)


class _Unsupported(Exception):
    """The direct writer cannot write this model; says why."""


# --- the table of layers ---------------------------------------------------------------------------


class Writer:
    """An ONNX graph that grows.

    Attributes:
        nodes: in the order of execution.
        initializers: by name.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._names = {id(weight): name for name, weight in weights.items()}

    def node(self, op: str, *inputs: Value, **attributes: Any) -> str:
        """Appends a node of operator `op`, and returns the name of its output."""
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self._name(x) for x in inputs], [output], **attributes))
        return output

    def constant(self, array: NDArray[Any]) -> str:
        """Adds a constant, and returns its name."""
        return self._initializer(f"constant_{len(self.initializers)}", array)

    def integers(self, values: Iterable[int]) -> str:
        """Adds a constant `int64[n]`, and returns its name."""
        return self.constant(np.array(list(values), np.int64))

    def _name(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, Tensor):
            return self.constant(np.array(value, np.float32))
        if value.dtype != torch.float32:
            raise _Unsupported(f"a weight of {value.dtype}")
        name = self._names.get(id(value))
        if name is None:
            return self.constant(value.numpy(force=True))
        return name if name in self.initializers else self._initializer(name, value.numpy(force=True))

    def _initializer(self, name: str, array: NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise _Unsupported(what)


def _each(value: int | Sequence[int], dims: int) -> list[int]:
    """One number a spatial dimension."""
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values


def _conv(
    w: Writer,
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> str:
    _require(isinstance(weight, Tensor), "a convolution with computed weights")
    _require(not isinstance(padding, str), f"padding={padding!r}")
    kernel = list(weight.shape[2:])
    return w.node(
        "Conv",
        x,
        weight,
        *([] if bias is None else [bias]),
        kernel_shape=kernel,
        strides=_each(stride, len(kernel)),
        pads=_each(padding, len(kernel)) * 2,  # at the beginnings, then at the ends
        dilations=_each(dilation, len(kernel)),
        group=groups,
    )


def _linear(w: Writer, x: Value, weight: Value, bias: Value | None = None) -> str:
    product = w.node("MatMul", x, w.node("Transpose", weight, perm=[1, 0]))  # ORT folds and fuses both
    return product if bias is None else w.node("Add", product, bias)


def _batch_norm(
    w: Writer,
    x: Value,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> str:
    if mean is None or var is None or training:
        raise _Unsupported("batch norm without running statistics")
    scale = torch.ones_like(mean) if weight is None else weight
    shift = torch.zeros_like(mean) if bias is None else bias
    return w.node("BatchNormalization", x, scale, shift, mean, var, epsilon=eps)


def _dropout(w: Writer, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    _require(not training, "dropout that is active in eval mode")
    return x


def _unary(op: str, **attributes: float) -> Callable[..., str]:
    def write(w: Writer, x: Value, inplace: bool = False) -> str:
        return w.node(op, x, **attributes)

    return write


def _hardtanh(w: Writer, x: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> str:
    return w.node("Clip", x, min_val, max_val)


def _relu6(w: Writer, x: Value, inplace: bool = False) -> str:
    return _hardtanh(w, x, 0.0, 6.0)


def _leaky_relu(w: Writer, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> str:
    return w.node("LeakyRelu", x, alpha=negative_slope)


def _silu(w: Writer, x: Value, inplace: bool = False) -> str:
    return w.node("Mul", x, w.node("Sigmoid", x))


def _gelu(w: Writer, x: Value, approximate: str = "none") -> str:  # an operator of its own from opset 20 on
    if approximate == "tanh":
        cubic = w.node("Add", x, w.node("Mul", w.node("Mul", w.node("Mul", x, x), x), 0.044715))
        gate = w.node("Tanh", w.node("Mul", cubic, math.sqrt(2 / math.pi)))
    else:
        gate = w.node("Erf", w.node("Div", x, math.sqrt(2)))
    return w.node("Mul", w.node("Mul", x, w.node("Add", gate, 1.0)), 0.5)


def _pool(
    w: Writer,
    op: str,
    x: Value,
    kernel: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    dims: int,
    **more: Any,
) -> str:
    kernels, strides, pads = _each(kernel, dims), _each(stride or kernel, dims), _each(padding, dims)
    # torch drops a window that starts in the padding at the end; ONNX's shape inference does not
    dropped = ceil_mode and any(s > k - p for k, s, p in zip(kernels, strides, pads, strict=True))
    _require(not dropped, "ceil_mode with stride > kernel - padding")
    return w.node(
        op, x, kernel_shape=kernels, strides=strides, pads=pads * 2, ceil_mode=int(ceil_mode), **more
    )


def _max_pool(
    w: Writer,
    x: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,  # torch calls another function if True
    *,
    dims: int,
) -> str:
    dilations = _each(dilation, dims)
    _require(not ceil_mode or set(dilations) == {1}, "ceil_mode with dilation")
    return _pool(w, "MaxPool", x, kernel_size, stride, padding, ceil_mode, dims, dilations=dilations)


def _avg_pool(
    w: Writer,
    x: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dims: int,
) -> str:
    _require(divisor_override is None, "divisor_override")
    count = int(count_include_pad)
    return _pool(w, "AveragePool", x, kernel_size, stride, padding, ceil_mode, dims, count_include_pad=count)


def _global_pool(op: str) -> Callable[..., str]:
    def write(w: Writer, x: Value, output_size: Any, return_indices: bool = False) -> str:
        sizes = output_size if isinstance(output_size, Sequence) else (output_size,)
        _require(all(size == 1 for size in sizes), f"adaptive pooling to {output_size}")
        return w.node(op, x)

    return write


def _flatten(w: Writer, x: Value, start_dim: int = 0, end_dim: int = -1) -> str:
    _require((start_dim, end_dim) == (1, -1), f"flatten({start_dim}, {end_dim})")
    return w.node("Flatten", x, axis=1)


def _mean(w: Writer, x: Value, dim: Any = None, keepdim: bool = False) -> str:
    _require(dim is not None, "a mean over all dimensions")
    return w.node("ReduceMean", x, w.integers(_each(dim, 1)), keepdims=int(keepdim))


def _getitem(w: Writer, x: Value, index: Any) -> Value:
    """Slices, as in `x[:, :8]` and `x[..., 1:, ::2]`."""
    items = index if isinstance(index, tuple) else (index,)
    _require(all(item is ... or isinstance(item, slice) for item in items), f"the index {index}")
    first_of_last = items.index(...) if ... in items else len(items)
    slices = {
        place - (len(items) if place > first_of_last else 0): item
        for place, item in enumerate(items)
        if item is not ... and item != slice(None)
    }
    for item in slices.values():
        bounds = (item.start, item.stop, item.step)
        _require(all(bound is None or type(bound) is int for bound in bounds), f"the index {index}")
    if not slices:
        return x
    starts = [item.start or 0 for item in slices.values()]
    stops = [np.iinfo(np.int64).max if item.stop is None else item.stop for item in slices.values()]
    steps = [item.step or 1 for item in slices.values()]
    return w.node("Slice", x, *(w.integers(values) for values in (starts, stops, slices, steps)))


def _pad(w: Writer, x: Value, pad: Any, mode: str = "constant", value: float | None = None) -> str:
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    _require(mode in modes, f"padding of the mode {mode!r}")
    axes = range(-1, -len(pad) // 2 - 1, -1)  # torch pads the last one first
    pads = w.integers([*pad[::2], *pad[1::2]])
    return w.node("Pad", x, pads, value or 0.0, w.integers(axes), mode=modes[mode])


def _interpolate(
    w: Writer,
    x: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> str:
    axes = {"linear": [2], "bilinear": [2, 3]}.get(mode, [])
    _require(bool(axes) and not antialias, f"interpolation of the mode {mode!r}, {antialias=}")
    _require(size is not None, "interpolation by a factor")
    places = "align_corners" if align_corners else "half_pixel"
    sizes = w.integers(_each(size, len(axes)))
    return w.node("Resize", x, "", "", sizes, axes=axes, mode="linear", coordinate_transformation_mode=places)


def _cat(w: Writer, tensors: Sequence[Value], dim: int = 0) -> str:
    return w.node("Concat", *tensors, axis=dim)


def _binary(op: str) -> Callable[..., str]:
    def write(w: Writer, a: Value, b: Value) -> str:
        return w.node(op, a, b)

    return write


def _called(
    writer: Callable[..., Value], *targets: Callable[..., Any] | str
) -> dict[Any, Callable[..., Value]]:
    return dict.fromkeys(targets, writer)


WRITERS: dict[Callable[..., Any] | str, Callable[..., Value]] = {
    **_called(_conv, F.conv1d, F.conv2d),
    **_called(_linear, F.linear),
    **_called(_batch_norm, F.batch_norm),
    **_called(_dropout, F.dropout),
    **_called(_unary("Relu"), F.relu, torch.relu, torch.relu_, "relu", "relu_"),
    **_called(_unary("Sigmoid"), torch.sigmoid, "sigmoid"),
    **_called(_unary("Tanh"), torch.tanh, "tanh"),
    **_called(_unary("HardSwish"), F.hardswish),
    **_called(_unary("HardSigmoid", alpha=1 / 6, beta=0.5), F.hardsigmoid),
    **_called(_relu6, F.relu6),
    **_called(_hardtanh, F.hardtanh),
    **_called(_leaky_relu, F.leaky_relu),
    **_called(_silu, F.silu),
    **_called(_gelu, F.gelu),
    **_called(partial(_max_pool, dims=1), F.max_pool1d),
    **_called(partial(_max_pool, dims=2), F.max_pool2d),
    **_called(partial(_avg_pool, dims=1), F.avg_pool1d),
    **_called(partial(_avg_pool, dims=2), F.avg_pool2d),
    **_called(_global_pool("GlobalAveragePool"), F.adaptive_avg_pool1d, F.adaptive_avg_pool2d),
    **_called(_global_pool("GlobalMaxPool"), F.adaptive_max_pool1d, F.adaptive_max_pool2d),
    **_called(_flatten, torch.flatten, "flatten"),
    **_called(_mean, torch.mean, "mean"),
    **_called(_getitem, operator.getitem),
    **_called(_pad, F.pad),
    **_called(_interpolate, F.interpolate),
    **_called(_cat, torch.cat, torch.concat),
    **_called(_binary("Add"), operator.add, operator.iadd, torch.add, "add", "add_"),
    **_called(_binary("Mul"), operator.mul, operator.imul, torch.mul, "mul", "mul_"),
}
"""(function, or name of a tensor method) -> what writes it, with the same signature after the writer."""


# --- from the model to the file --------------------------------------------------------------------


class _Proxy(fx.Proxy):
    """Tells `x += y`, which overwrites, from `x + y`."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})


class _Tracer(fx.Tracer):
    """Traces through every module but batch norm, whose forward branches on the rank of its input."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return type(module) in (nn.BatchNorm1d, nn.BatchNorm2d)


def _write(model: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """The direct way. Raises `_Unsupported`."""
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # the forward of a user's model may raise anything on a proxy
        raise _Unsupported(f"not traceable: {error}") from error
    w = Writer(model.state_dict(keep_vars=True))
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        if node.op == "placeholder":
            _require(not values, "a model of several inputs")
            values[node] = "input"
        elif node.op == "get_attr":
            values[node] = operator.attrgetter(node.target)(model)
        elif node.op == "output":
            _require(isinstance(args[0], str), "an output that is not one computed tensor")
            w.nodes.append(helper.make_node("Identity", [args[0]], ["logits"]))
        elif node.op == "call_module":
            bn: Any = model.get_submodule(node.target)
            stats = (bn.running_mean, bn.running_var, bn.weight, bn.bias)
            values[node] = _batch_norm(w, args[0], *stats, eps=bn.eps)
        else:
            values[node] = _call(w, node, args, kwargs)
            if _in_place(node):
                _overwrite(w, values, values[node.args[0]], values[node])
    return _serialized(w, input_shape)


def _call(w: Writer, node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
    writer = WRITERS.get(node.target)
    if writer is None:
        raise _Unsupported(f"no writer for {node.target}")
    try:
        inspect.signature(writer).bind(w, *args, **kwargs)
    except TypeError as error:
        raise _Unsupported(f"{node.target}: {error}") from error
    return writer(w, *args, **kwargs)


def _in_place(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or name.endswith("_") or name in ("iadd", "imul")


def _overwrite(w: Writer, values: dict[fx.Node, Any], old: Value, new: Value) -> None:
    """From here on, whoever reads `old` reads `new`, as after an in-place call in torch."""
    _require(isinstance(old, str), "an in-place call on a weight")
    viewed = any(n.op_type in VIEWS and old in (*n.input, *n.output) for n in w.nodes)
    _require(not viewed, "an in-place call on a view")
    values.update({node: new for node, value in values.items() if value is old})


def _serialized(w: Writer, input_shape: tuple[int, ...]) -> bytes:
    shape: list[str | int | None] = ["batch", *input_shape]
    graph = helper.make_graph(
        w.nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        list(w.initializers.values()),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="paretonas")
    data: bytes = onnx.shape_inference.infer_shapes(model).SerializeToString()
    return data


def _export(model: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """The slow way, for everything else. An example of batch 1 would fix the batch to 1."""
    program = torch.onnx.export(
        model,
        (torch.zeros(2, *input_shape),),
        input_names=["input"],
        output_names=["logits"],
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    data: bytes = program.model_proto.SerializeToString()
    return data
