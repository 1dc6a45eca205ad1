"""Plans as `torch.nn.Module`s. The only module of this package that imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.fragments import Layer, Shape
from search_spaces.plan import Plan, flattened

Make = Callable[[Layer, Shape], nn.Module]
_CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_MAX_POOL: dict[int, Callable[..., nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
_AVG_POOL: dict[int, Callable[..., nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
_GLOBAL_POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}


class Add(nn.Module):
    """Sum of its inputs."""

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = first + other
        return first


class Concat(nn.Module):
    """Channels of its inputs side by side."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


class Scale(nn.Module):
    """A feature map times one factor a channel."""

    def forward(self, x: Tensor, by: Tensor) -> Tensor:
        return x * by


class Zero(nn.Module):
    """Zeros, at every `stride`-th place."""

    def __init__(self, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        places: Any = (..., *(slice(None, None, stride) for stride in self.stride))
        return x[places] * 0.0


class Narrow(nn.Module):
    """The first `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.width]


class Shift(nn.Module):
    """Every spatial axis one place to the left, a zero coming in."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (-1, 1) * self.axes)


class Resize(nn.Module):
    """Bilinear (linear for series), to a fixed size."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        mode = "linear" if len(self.size) == 1 else "bilinear"
        return F.interpolate(x, self.size, mode=mode, align_corners=False)


def _conv(layer: Layer, shape: Shape) -> nn.Module:
    return _CONV[len(layer.kernel)](
        shape[0],
        layer.shape[0],
        layer.kernel,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias,
    )


def _pool(layer: Layer, shape: Shape) -> nn.Module:
    k, s, p = layer.kernel[0], layer.stride[0], layer.padding[0]
    ceil = any(
        out != (side + 2 * p - k) // s + 1 for out, side in zip(layer.shape[1:], shape[1:], strict=True)
    )
    if layer.kind == "max_pool":
        return _MAX_POOL[len(layer.kernel)](layer.kernel, layer.stride, layer.padding, ceil_mode=ceil)
    return _AVG_POOL[len(layer.kernel)](
        layer.kernel, layer.stride, layer.padding, ceil_mode=ceil, count_include_pad=False
    )


MAKE: Mapping[str, Make] = {
    "conv": _conv,
    "batch_norm": lambda layer, _: _NORM[len(layer.shape) - 1](layer.shape[0]),
    "linear": lambda layer, shape: nn.Linear(shape[0], layer.shape[0]),
    "max_pool": _pool,
    "avg_pool": _pool,
    "global_pool": lambda layer, _: _GLOBAL_POOL[len(layer.shape) - 1](1),
    "flatten": lambda _, __: nn.Flatten(),
    "add": lambda _, __: Add(),
    "concat": lambda _, __: Concat(),
    "scale": lambda _, __: Scale(),
    "zero": lambda layer, _: Zero(layer.stride),
    "narrow": lambda layer, _: Narrow(layer.shape[0]),
    "shift": lambda layer, _: Shift(len(layer.shape) - 1),
    "resize": lambda layer, _: Resize(layer.shape[1:]),
    "relu": lambda _, __: nn.ReLU(),
    "relu6": lambda _, __: nn.ReLU6(),
    "hard_swish": lambda _, __: nn.Hardswish(),
    "hard_sigmoid": lambda _, __: nn.Hardsigmoid(),
    "sigmoid": lambda _, __: nn.Sigmoid(),
    "silu": lambda _, __: nn.SiLU(),
    "gelu": lambda _, __: nn.GELU(),
    "tanh": lambda _, __: nn.Tanh(),
}
"""How each kind of layer is made, from the layer and the shape of its first input."""


class Network(nn.Module):
    """A plan that runs: float32[batch, *input_shape] -> float32[batch, classes].

    The modules stand in a tree by their dotted names, so that the parameters of node 3 of graph
    "net" are all named "net.n3.…". Convolutions are drawn from He's normal law.

    Attributes:
        program: the layers in the order they run, each by the name of its module; see `flattened`.
        features: channels of the input.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.program = tuple(flattened(plan))
        self.features = plan[0].part.inputs[0][0]
        last_read: dict[int, int] = {}
        for step, layer in enumerate(self.program):
            first = layer.inputs[0]
            shape = self.program[first].shape if first >= 0 else plan[0].part.inputs[0]
            self._set(layer.name, MAKE[layer.kind](layer, shape))
            last_read.update(dict.fromkeys(layer.inputs, step))
        self._done = [  # what nobody reads after each step
            [source for source in set(layer.inputs) if last_read[source] == step]
            for step, layer in enumerate(self.program)
        ]
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def _set(self, name: str, module: nn.Module) -> None:
        *path, last = name.split(".")
        parent: nn.Module = self
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, module)

    def forward(self, x: Tensor) -> Tensor:
        values: dict[int, Tensor] = {-1: x}
        for step, layer in enumerate(self.program):
            values[step] = self.get_submodule(layer.name)(*(values[source] for source in layer.inputs))
            for source in self._done[step]:
                del values[source]
        return values[len(self.program) - 1]
