"""Fragments: what one operation is made of, as data. Cost, modules and memory are read off them.

A fragment is a short list of primitive layers with their output shapes. Shapes leave the batch out:
(channels, height, width), (channels, length) or (features,).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nas.architecture import InvalidArchitecture

Shape = tuple[int, ...]
Activation = Literal["relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "silu", "gelu", "tanh"]
Kind = (
    Activation
    | Literal[
        "conv",
        "batch_norm",
        "linear",
        "max_pool",
        "avg_pool",
        "global_pool",
        "flatten",
        "add",
        "concat",
        "scale",
        "zero",
        "narrow",
        "shift",
        "resize",
    ]
)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
IN_PLACE = frozenset({"batch_norm", "flatten", *ACTIVATIONS})
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


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """The layers of one operation at given input shapes; the last one is the output.

    A fragment without layers passes its only input on. `shape` and `size`, in elements, are of the output;
    `peaks` memoises `search_spaces.plan.peak`.
    """

    inputs: tuple[Shape, ...]
    layers: tuple[Layer, ...]
    params: int = field(init=False)
    macs: int = field(init=False)
    shape: Shape = field(init=False)
    size: int = field(init=False)
    peaks: dict[Any, int] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", sum(layer.params for layer in self.layers))
        object.__setattr__(self, "macs", sum(layer.macs for layer in self.layers))
        object.__setattr__(self, "shape", self.layers[-1].shape if self.layers else self.inputs[0])
        object.__setattr__(self, "size", elements(self.shape))


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
        stride: int | tuple[int, ...] = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> int:
        """Convolution with "same" padding at stride 1; odd kernels only."""
        channels, spatial = self._spatial(x)
        kernels = (kernel,) * len(spatial) if isinstance(kernel, int) else kernel
        strides = (stride,) * len(spatial) if isinstance(stride, int) else stride
        if any(k % 2 == 0 for k in kernels):
            raise InvalidArchitecture(f"kernel must be odd, but got {kernel}")
        if channels % groups or width % groups:
            raise InvalidArchitecture(
                f"groups must divide channels, but got {groups=}, {channels=}, {width=}"
            )
        self._fits_stride(spatial, strides)
        out = (width, *((side - 1) // step + 1 for side, step in zip(spatial, strides, strict=True)))
        per_output = channels // groups * math.prod(kernels)
        return self._add(
            Layer(
                name,
                "conv",
                (x,),
                out,
                kernels,
                strides,
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

    def activation(self, name: str, x: int, kind: Activation) -> int:
        if kind not in ACTIVATIONS:
            raise InvalidArchitecture(f"an activation must be one of {ACTIVATIONS}, but got {kind!r}")
        return self._add(Layer(name, kind, (x,), self.shape(x)))

    def relu(self, name: str, x: int) -> int:
        return self.activation(name, x, "relu")

    def conv_bn(
        self,
        name: str,
        x: int,
        width: int,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
    ) -> int:
        """Convolution and batch norm, named `name`.conv and `name`.bn."""
        return self.batch_norm(
            f"{name}.bn",
            self.conv(f"{name}.conv", x, width, kernel, stride, groups=groups, dilation=dilation),
        )

    def conv_bn_relu(
        self,
        name: str,
        x: int,
        width: int,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        *,
        groups: int = 1,
        activation: Activation = "relu",
    ) -> int:
        """Convolution, batch norm and activation, named below `name`."""
        x = self.conv_bn(name, x, width, kernel, stride, groups=groups)
        return self.activation(f"{name}.{activation}", x, activation)

    def relu_conv_bn(
        self,
        name: str,
        x: int,
        width: int,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        *,
        groups: int = 1,
        dilation: int = 1,
    ) -> int:
        """ReLU, convolution and batch norm, as cells have them, named below `name`."""
        x = self.relu(f"{name}.relu", x)
        return self.conv_bn(name, x, width, kernel, stride, groups=groups, dilation=dilation)

    def pool(
        self,
        name: str,
        x: int,
        kind: Literal["max_pool", "avg_pool"],
        kernel: int,
        stride: int,
        *,
        pad: bool = True,
        ceil: bool = False,
    ) -> int:
        """Pooling, padded like a convolution (odd kernels) or not at all; averages leave the padding out.

        With `ceil` the last window may hang over the edge.
        """
        channels, spatial = self._spatial(x)
        axes = len(spatial)
        if pad:
            if kernel % 2 == 0:
                raise InvalidArchitecture(f"a padded pooling must have an odd kernel, but got {kernel}")
            self._fits_stride(spatial, (stride,) * axes)
        elif any(side < kernel for side in spatial):
            raise InvalidArchitecture(
                f"a side must be at least the pooling's kernel ({kernel}), but got {tuple(spatial)}: too "
                "deep for the input resolution"
            )
        padding = (kernel - 1) // 2 if pad else 0
        if ceil and stride > kernel - padding:
            raise InvalidArchitecture(
                f"the stride of a pooling that may hang over the edge must be at most {kernel - padding}, "
                f"but got {stride}"
            )
        rest = stride - 1 if ceil else 0
        out = (channels, *((side + 2 * padding - kernel + rest) // stride + 1 for side in spatial))
        return self._add(Layer(name, kind, (x,), out, (kernel,) * axes, (stride,) * axes, (padding,) * axes))

    def scale(self, name: str, x: int, by: int) -> int:
        """(channels, …) times (channels, 1, …), as squeeze-and-excitation does."""
        channels, *spatial = self.shape(x)
        if self.shape(by) != (channels, *(1 for _ in spatial)):
            raise InvalidArchitecture(f"{self.shape(x)} cannot be scaled by {self.shape(by)}")
        return self._add(Layer(name, "scale", (x, by), self.shape(x)))

    def squeeze_excite(
        self, name: str, x: int, hidden: int, inner: Activation = "relu", outer: Activation = "sigmoid"
    ) -> int:
        """Channels weighed by what their means say (Hu et al. 2018), in 1x1 convolutions with bias."""
        y = self.conv(f"{name}.reduce", self.global_pool(f"{name}.pool", x), hidden, 1, bias=True)
        y = self.conv(
            f"{name}.expand", self.activation(f"{name}.inner", y, inner), self.shape(x)[0], 1, bias=True
        )
        return self.scale(f"{name}.scale", x, self.activation(f"{name}.outer", y, outer))

    def zero(self, name: str, x: int, stride: int = 1) -> int:
        """Zeros in the shape that a pooling of this stride would have."""
        channels, *spatial = self.shape(x)
        self._fits_stride(spatial, (stride,) * len(spatial))
        out = (channels, *((side - 1) // stride + 1 for side in spatial))
        return self._add(Layer(name, "zero", (x,), out, stride=(stride,) * len(spatial)))

    def narrow(self, name: str, x: int, width: int) -> int:
        """The first `width` channels."""
        channels, *spatial = self.shape(x)
        if width > channels:
            raise InvalidArchitecture(f"{channels} channels cannot be narrowed to {width}")
        return self._add(Layer(name, "narrow", (x,), (width, *spatial)))

    def shift(self, name: str, x: int) -> int:
        """One place to the left on every spatial axis, a zero coming in: what a strided layer then sees
        are the places between those it sees without."""
        return self._add(Layer(name, "shift", (x,), self.shape(x)))

    def resize(self, name: str, x: int, side: int) -> int:
        """Bilinear, to `side` on every spatial axis."""
        channels, *spatial = self.shape(x)
        return self._add(Layer(name, "resize", (x,), (channels, *(side for _ in spatial))))

    def global_pool(self, name: str, x: int) -> int:
        """Mean over space: (channels, …) -> (channels, 1, …)."""
        channels, spatial = self._spatial(x)
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

    def _spatial(self, x: int) -> tuple[int, tuple[int, ...]]:
        """Channels and sides of a feature map."""
        channels, *sides = self.shape(x)
        if not sides:
            raise InvalidArchitecture(f"it must read (channels, sides…), but got the shape {self.shape(x)}")
        return channels, tuple(sides)

    @staticmethod
    def _fits_stride(spatial: Sequence[int], strides: Sequence[int]) -> None:
        for side, stride in zip(spatial, strides, strict=True):
            if side < stride:
                raise InvalidArchitecture(
                    f"a side must be at least the stride ({stride}), but got {tuple(spatial)}: too deep for "
                    "the input resolution"
                )
