"""Fragments: what one operation is made of, as data. Cost, modules and memory are read off them.

A fragment is a short list of primitive layers with their output shapes. Shapes leave the batch out:
(channels, height, width), (channels, length) or (features,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nas.architecture import InvalidArchitecture

Shape = tuple[int, ...]
Kind = Literal[
    "conv", "batch_norm", "relu", "linear", "max_pool", "avg_pool", "global_pool", "flatten", "add", "concat"
]
IN_PLACE = frozenset({"batch_norm", "relu", "flatten"})
"""Kinds whose output takes the memory of their input."""

FLOAT32_BYTES = 4


def elements(shape: Shape) -> int:
    """Numbers in one tensor of this shape."""
    return math.prod(shape)


@dataclass(frozen=True, slots=True)
class Layer:
    """One primitive layer.

    Attributes:
        name: unique in its fragment; the module's name below the node's.
        inputs: earlier layers by index; -1 - i is the fragment's i-th input.
        shape: of the output.
        kernel, stride, padding, dilation: one number a spatial axis (empty where they mean nothing).
        groups: of a convolution.
        bias: of a convolution or linear layer.
        params: trainable numbers.
        macs: multiply-accumulates for one input.
    """

    name: str
    kind: Kind
    inputs: tuple[int, ...]
    shape: Shape
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    params: int = 0
    macs: int = 0


@dataclass(frozen=True, slots=True)
class Fragment:
    """The layers of one operation at given input shapes; the last one is the output.

    A fragment without layers passes its only input on.
    """

    inputs: tuple[Shape, ...]
    layers: tuple[Layer, ...]
    params: int = field(init=False)
    macs: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", sum(layer.params for layer in self.layers))
        object.__setattr__(self, "macs", sum(layer.macs for layer in self.layers))

    @property
    def shape(self) -> Shape:
        """Shape of the output."""
        return self.layers[-1].shape if self.layers else self.inputs[0]


class Builder:
    """Writes a fragment layer by layer. Every method returns the new layer's index.

    Raises:
        InvalidArchitecture: shapes do not fit; the message states the rule, the caller adds the node.
    """

    def __init__(self, *inputs: Shape) -> None:
        self._inputs = inputs
        self.inputs = len(inputs)
        self._layers: list[Layer] = []

    def done(self) -> Fragment:
        return Fragment(self._inputs, tuple(self._layers))

    def shape(self, index: int) -> Shape:
        """Output shape of a layer, or of an input for a negative index."""
        return self._layers[index].shape if index >= 0 else self._inputs[-1 - index]

    def _add(self, layer: Layer) -> int:
        self._layers.append(layer)
        return len(self._layers) - 1

    def conv(
        self,
        name: str,
        x: int,
        width: int,
        kernel: int | tuple[int, ...],
        stride: int = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> int:
        """Convolution with "same" padding at stride 1; odd kernels only."""
        channels, *spatial = self.shape(x)
        kernels = (kernel,) * len(spatial) if isinstance(kernel, int) else kernel
        if channels % groups or width % groups:
            raise InvalidArchitecture(
                f"groups must divide channels, but got {groups=}, {channels=}, {width=}"
            )
        self._fits_stride(spatial, stride)
        out = (width, *((side - 1) // stride + 1 for side in spatial))
        per_output = channels // groups * math.prod(kernels)
        return self._add(
            Layer(
                name,
                "conv",
                (x,),
                out,
                kernels,
                (stride,) * len(spatial),
                tuple(dilation * (k - 1) // 2 for k in kernels),
                (dilation,) * len(spatial),
                groups,
                bias,
                params=width * per_output + (width if bias else 0),
                macs=elements(out) * per_output,
            )
        )

    def batch_norm(self, name: str, x: int) -> int:
        shape = self.shape(x)
        return self._add(Layer(name, "batch_norm", (x,), shape, params=2 * shape[0]))

    def relu(self, name: str, x: int) -> int:
        return self._add(Layer(name, "relu", (x,), self.shape(x)))

    def conv_bn(self, name: str, x: int, width: int, kernel: int, stride: int = 1, *, groups: int = 1) -> int:
        """Convolution and batch norm, named `name`.conv and `name`.bn."""
        return self.batch_norm(
            f"{name}.bn", self.conv(f"{name}.conv", x, width, kernel, stride, groups=groups)
        )

    def conv_bn_relu(
        self, name: str, x: int, width: int, kernel: int, stride: int = 1, *, groups: int = 1
    ) -> int:
        """Convolution, batch norm and ReLU, named below `name`."""
        return self.relu(f"{name}.relu", self.conv_bn(name, x, width, kernel, stride, groups=groups))

    def pool(self, name: str, x: int, kind: Literal["max_pool", "avg_pool"], kernel: int, stride: int) -> int:
        """Pooling padded like a convolution; averages leave the padding out."""
        channels, *spatial = self.shape(x)
        self._fits_stride(spatial, stride)
        axes = len(spatial)
        out = (channels, *((side - 1) // stride + 1 for side in spatial))
        return self._add(
            Layer(name, kind, (x,), out, (kernel,) * axes, (stride,) * axes, ((kernel - 1) // 2,) * axes)
        )

    def global_pool(self, name: str, x: int) -> int:
        """Mean over space: (channels, …) -> (channels, 1, …)."""
        channels, *spatial = self.shape(x)
        return self._add(Layer(name, "global_pool", (x,), (channels, *(1 for _ in spatial))))

    def flatten(self, name: str, x: int) -> int:
        return self._add(Layer(name, "flatten", (x,), (elements(self.shape(x)),)))

    def linear(self, name: str, x: int, width: int) -> int:
        """Fully connected layer with bias."""
        (features,) = self.shape(x)
        return self._add(
            Layer(
                name,
                "linear",
                (x,),
                (width,),
                bias=True,
                params=(features + 1) * width,
                macs=features * width,
            )
        )

    def add(self, name: str, xs: Sequence[int]) -> int:
        """Elementwise sum of equal shapes."""
        shapes = [self.shape(x) for x in xs]
        if len(set(shapes)) != 1:
            raise InvalidArchitecture(f"added shapes must be equal, but got {shapes}")
        return self._add(Layer(name, "add", tuple(xs), shapes[0]))

    def concat(self, name: str, xs: Sequence[int]) -> int:
        """Channels side by side, in order; the other sizes must be equal."""
        shapes = [self.shape(x) for x in xs]
        if len({shape[1:] for shape in shapes}) != 1:
            raise InvalidArchitecture(f"concatenated shapes must differ in channels only, but got {shapes}")
        return self._add(
            Layer(name, "concat", tuple(xs), (sum(shape[0] for shape in shapes), *shapes[0][1:]))
        )

    @staticmethod
    def _fits_stride(spatial: Sequence[int], stride: int) -> None:
        if any(side < stride for side in spatial):
            raise InvalidArchitecture(
                f"a side must be at least the stride ({stride}), but got {tuple(spatial)}: too deep for the "
                "input resolution"
            )
