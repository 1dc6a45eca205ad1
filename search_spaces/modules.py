"""Plans as `torch.nn.Module`s. The only module of this package that imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from search_spaces.fragments import Layer
from search_spaces.plan import Plan

Make = Callable[[Layer, int], nn.Module]
_CONV: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
_NORM = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
_AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
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


def _conv(layer: Layer, channels: int) -> nn.Module:
    return _CONV[len(layer.kernel)](
        channels,
        layer.shape[0],
        layer.kernel,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias,
    )


MAKE: Mapping[str, Make] = {
    "conv": _conv,
    "batch_norm": lambda layer, _: _NORM[len(layer.shape) - 1](layer.shape[0]),
    "relu": lambda _, __: nn.ReLU(),
    "linear": lambda layer, features: nn.Linear(features, layer.shape[0]),
    "max_pool": lambda layer, _: _MAX_POOL[len(layer.kernel)](layer.kernel, layer.stride, layer.padding),
    "avg_pool": lambda layer, _: _AVG_POOL[len(layer.kernel)](
        layer.kernel, layer.stride, layer.padding, count_include_pad=False
    ),
    "global_pool": lambda layer, _: _GLOBAL_POOL[len(layer.shape) - 1](1),
    "flatten": lambda _, __: nn.Flatten(),
    "add": lambda _, __: Add(),
    "concat": lambda _, __: Concat(),
}
"""How each kind of layer is made, from the layer and the channels of its first input."""


class Network(nn.Module):
    """A plan that runs: float32[batch, *input_shape] -> float32[batch, classes].

    The modules stand in a tree by their dotted names, so that the parameters of node 3 of graph
    "net" are all named "net.n3.…". Convolutions that a ReLU follows are drawn from He's normal law.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._steps: list[tuple[str, tuple[int, ...]]] = []  # (module, inputs); index -1 is the input
        outputs: list[int] = []  # place -> index of the step that ends it
        for placed in plan:
            feeds = [outputs[place] if place >= 0 else -1 for place in placed.inputs]
            start = len(self._steps)
            for layer in placed.fragment.layers:
                sources = tuple(feeds[-1 - i] if i < 0 else start + i for i in layer.inputs)
                first = layer.inputs[0]
                shape = (
                    placed.fragment.inputs[-1 - first] if first < 0 else placed.fragment.layers[first].shape
                )
                name = f"{placed.name}.{layer.name}"
                self._set(name, MAKE[layer.kind](layer, shape[0]))
                self._steps.append((name, sources))
            outputs.append(len(self._steps) - 1)
        self._done = [  # what nobody reads after each step
            [
                source
                for source in set(sources)
                if all(source not in later for _, later in self._steps[i + 1 :])
            ]
            for i, (_, sources) in enumerate(self._steps)
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
        for index, (name, sources) in enumerate(self._steps):
            values[index] = self.get_submodule(name)(*(values[source] for source in sources))
            for source in self._done[index]:
                del values[source]
        return values[len(self._steps) - 1]
