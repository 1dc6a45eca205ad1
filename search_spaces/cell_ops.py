"""The ops of cells with two inputs: NASNet's, those of its heirs, and DARTS's.

All take their width and stride from the place. They follow tensorflow/tpu, models/official/amoeba_net/
network_utils.py (the code of AmoebaNet, of which tensorflow/models, research/slim/nets/nasnet holds a part)
and quark0/darts, cnn/operations.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from search_spaces.fragments import Builder
from search_spaces.operations import PLACE, Operation


def fits(b: Builder, p: Mapping[str, Any]) -> bool:
    """Whether the input has the width and the side that the place asks for."""
    return bool(p["stride"] == 1 and b.shape(-1)[0] == p["width"])


def factorized_reduction(b: Builder, x: int, width: int) -> int:
    """Half the side, all places seen: a strided 1x1 convolution, and beside it one of the places that the
    first leaves out; then batch norm."""
    half = b.conv("even", x, width - width // 2, 1, 2)
    other = b.conv("odd", b.shift("shift", x), width // 2, 1, 2)
    return b.batch_norm("bn", b.concat("concat", (half, other)))


def _prepare(b: Builder, p: Mapping[str, Any]) -> None:
    if p["stride"] == 1:
        b.relu_conv_bn("block", -1, p["width"], 1)
    else:
        factorized_reduction(b, b.relu("relu", -1), p["width"])


def _skip(b: Builder, p: Mapping[str, Any]) -> None:
    if not fits(b, p):
        _prepare(b, p)


def _identity(b: Builder, p: Mapping[str, Any]) -> None:
    if not fits(b, p):
        b.relu_conv_bn("block", -1, p["width"], 1, p["stride"])


def _match(b: Builder, p: Mapping[str, Any]) -> None:
    if p["stride"] == 2:
        factorized_reduction(b, -1, p["width"])
    elif not fits(b, p):
        b.conv_bn("block", -1, p["width"], 1)


PREPARE = Operation(PLACE, _prepare)
"""What brings the output of a cell to the width of one that reads it: ReLU, 1x1 convolution and batch norm;
with stride 2 ReLU and factorized reduction."""

SKIP = Operation((), _skip, place=PLACE)
"""DARTS: nothing where width and side stay, else `PREPARE`."""

IDENTITY = Operation((), _identity, place=PLACE)
"""NASNet: nothing where width and side stay, else ReLU, 1x1 convolution and batch norm."""

MATCH = Operation((), _match, place=PLACE)
"""What a cell's input needs to stand beside its blocks: a 1x1 convolution and batch norm, or factorized
reduction, where width or side differ."""


def separable(kernel: int, layers: int = 2, dilation: int = 1) -> Operation:
    """ReLU, depthwise and pointwise convolution, batch norm, `layers` times, strided in the first."""

    def emit(b: Builder, p: Mapping[str, Any]) -> None:
        x, stride = -1, p["stride"]
        for layer in range(layers):
            x = b.relu(f"{layer}.relu", x)
            channels = b.shape(x)[0]
            x = b.conv(f"{layer}.depthwise", x, channels, kernel, stride, groups=channels, dilation=dilation)
            x = b.conv_bn(f"{layer}.pointwise", x, p["width"], 1)
            stride = 1

    return Operation((), emit, place=PLACE)


def pooling(kind: Literal["max_pool", "avg_pool"], kernel: int) -> Operation:
    """Padded pooling; behind it a 1x1 convolution and batch norm where the width changes."""

    def emit(b: Builder, p: Mapping[str, Any]) -> None:
        x = b.pool("pool", -1, kind, kernel, p["stride"])
        if b.shape(x)[0] != p["width"]:
            b.conv_bn("project", x, p["width"], 1)

    return Operation((), emit, place=PLACE)


def convolutions(*kernels: tuple[int, int], share: float = 1, dilation: int = 1) -> Operation:
    """For each kernel ReLU, convolution and batch norm; strided along the sides that the kernel spans.

    With a `share` below 1 they run on that share of the width, between 1x1 convolutions that narrow and
    widen, unless no channel would be left.
    """

    def emit(b: Builder, p: Mapping[str, Any]) -> None:
        narrow = int(p["width"] * share)
        squeezed = 0 < narrow < p["width"]
        width = narrow if squeezed else p["width"]
        x = b.relu_conv_bn("squeeze", -1, width, 1) if squeezed else -1
        for place, kernel in enumerate(kernels, start=1):
            x = b.relu_conv_bn(f"{place}", x, width, kernel, _strides(kernel, p), dilation=dilation)
        if squeezed:
            b.relu_conv_bn("expand", x, p["width"], 1)

    return Operation((), emit, place=PLACE)


def _strides(kernel: tuple[int, int], p: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple([p["stride"] if side == max(kernel) else 1 for side in kernel])


def thin_convolutions(kernel: int) -> Operation:
    """ReLU, convolutions 1 x `kernel` and `kernel` x 1 with nothing between them, batch norm (NSGA-Net)."""

    def emit(b: Builder, p: Mapping[str, Any]) -> None:
        x = b.conv("row", b.relu("relu", -1), p["width"], (1, kernel), _strides((1, kernel), p))
        b.conv_bn("column", x, p["width"], (kernel, 1), _strides((kernel, 1), p))

    return Operation((), emit, place=PLACE)
