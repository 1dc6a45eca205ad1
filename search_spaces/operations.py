"""The operations that nodes name, and what each is made of. A new op is one function and one line below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nas.architecture import InvalidArchitecture, Node, Params, Scalar
from search_spaces.fragments import Builder, Fragment, Shape

Emit = Callable[[Builder, Mapping[str, Any]], object]

PLACE = ("stride", "width")
"""What an operation may take from its place instead of from its node."""


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
        params: names of its positive integer parameters.
        emit: writes the layers; inputs are -1, -2 … in order.
        inputs: smallest and largest number of inputs (None for no largest).
        options: parameters that are one of a few values: {"activation": ("relu", "gelu")}.
        place: which of `PLACE` the place says: in cells the width and the stride are the template's.
        zero: it puts out zeros, whatever it reads.
    """

    params: tuple[str, ...]
    emit: Emit
    inputs: tuple[int, int | None] = (1, 1)
    options: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    place: tuple[str, ...] = ()
    zero: bool = False
    _cached: Callable[[Params, tuple[Shape, ...], tuple[int, ...]], Fragment] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cached", lru_cache(maxsize=65536)(self._fragment))

    def fragments(
        self, params: Params, shapes: tuple[Shape, ...], stride: int = 1, width: int = 0
    ) -> Fragment:
        """The layers at these input shapes; raises `InvalidArchitecture` if they cannot be."""
        for name, value in params:  # not in the cache, to which 1, 1.0 and True are equal
            if type(value) is not int or value < 1 or name in self.options:
                self._check_option(name, value)
        if not self.place:
            return self._cached(params, shapes, ())
        if len(self.place) == 2:
            return self._cached(params, shapes, (stride, width))
        return self._cached(params, shapes, (stride if self.place == ("stride",) else width,))

    def _check_option(self, name: str, value: Scalar) -> None:
        options = self.options.get(name)
        if options is None:
            raise InvalidArchitecture(f"parameter {name!r} must be a positive integer, but got {value!r}")
        if not any(type(value) is type(option) and value == option for option in options):
            raise InvalidArchitecture(f"parameter {name!r} must be one of {options}, but got {value!r}")

    def _fragment(self, params: Params, shapes: tuple[Shape, ...], place: tuple[int, ...]) -> Fragment:
        fewest, most = self.inputs
        if len(shapes) < fewest or (most is not None and len(shapes) > most):
            rule = f"{fewest} input(s)" if fewest == most else f"at least {fewest} inputs"
            raise InvalidArchitecture(f"it must have {rule}, but got {len(shapes)}")
        given = dict(params)
        names = (*self.params, *self.options)
        if set(given) != set(names):
            raise InvalidArchitecture(f"its parameters must be {sorted(names)}, but got {sorted(given)}")
        for name, value in params:
            if name in self.options:
                self._check_option(name, value)
        builder = Builder(*shapes)
        self.emit(builder, given | dict(zip(self.place, place, strict=True)))
        return builder.done()


def fragment_of(
    table: Mapping[str, Operation],
    node: Node,
    shapes: tuple[Shape, ...],
    stride: int = 1,
    width: int = 0,
) -> Fragment:
    """What `node` is made of at these input shapes.

    Args:
        table: the space's operations.
        stride, width: what the place says, to operations that ask for it.

    Raises:
        InvalidArchitecture: unknown op, wrong number of inputs, wrong parameters, shapes that do not fit.
    """
    operation = table.get(node.op)
    if operation is None:
        raise InvalidArchitecture(f"node {node.id}: op must be one of {sorted(table)}, but got {node.op!r}")
    try:
        return operation.fragments(node.params, shapes, stride, width)
    except InvalidArchitecture as error:
        raise InvalidArchitecture(f"node {node.id} ({node.op}): {error}") from error


# --- the ops -----------------------------------------------------------------------------------------


def _conv(b: Builder, p: Mapping[str, Any]) -> None:
    b.conv_bn_relu("block", -1, p["width"], p["kernel"], p["stride"])


def _sepconv(b: Builder, p: Mapping[str, Any]) -> None:
    """Depthwise-separable convolution (MobileNet, Howard et al. 2017, figure 3)."""
    channels = b.shape(-1)[0]
    depthwise = b.conv_bn_relu("depthwise", -1, channels, p["kernel"], p["stride"], groups=channels)
    b.conv_bn_relu("pointwise", depthwise, p["width"], 1)


def _mbconv(b: Builder, p: Mapping[str, Any]) -> None:
    """Inverted residual (MobileNetV2, Sandler et al. 2018, table 1); residual where shapes agree."""
    hidden = b.shape(-1)[0] * p["expand"]
    x = b.conv_bn_relu("expand", -1, hidden, 1)
    x = b.conv_bn_relu("depthwise", x, hidden, p["kernel"], p["stride"], groups=hidden)
    x = b.conv_bn("project", x, p["width"], 1)
    if b.shape(x) == b.shape(-1):
        b.add("residual", (x, -1))


def _identity(b: Builder, p: Mapping[str, Any]) -> None:
    """Nothing where the shape stays, else a 1x1 convolution and batch norm."""
    if p["stride"] != 1 or p["width"] != b.shape(-1)[0]:
        b.conv_bn("projection", -1, p["width"], 1, p["stride"])


def _add(b: Builder, _: Mapping[str, Any]) -> None:
    b.add("sum", [-1 - i for i in range(b.inputs)])


def _gated_add(b: Builder, _: Mapping[str, Any]) -> None:
    """The second input comes through a batch norm, which can shut it out: a new skip then changes nothing."""
    b.add("sum", (-1, b.batch_norm("gate", -2)))


def _concat(b: Builder, _: Mapping[str, Any]) -> None:
    b.concat("concat", [-1 - i for i in range(b.inputs)])


BLOCKS: Mapping[str, Operation] = {
    "conv": Operation(("kernel", "stride", "width"), _conv),
    "sepconv": Operation(("kernel", "stride", "width"), _sepconv),
    "mbconv": Operation(("expand", "kernel", "stride", "width"), _mbconv),
    "identity": Operation(("stride", "width"), _identity),
}
"""Blocks of a chain: they take a feature map to one of `width` channels, `stride` times smaller."""

JOINS: Mapping[str, Operation] = {
    "add": Operation((), _add, (1, None)),
    "gated_add": Operation((), _gated_add, (2, 2)),
    "concat": Operation((), _concat, (1, None)),
}
"""Ops that join several inputs."""


def _classifier(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.flatten("flatten", b.global_pool("pool", -1)) if len(b.shape(-1)) > 1 else -1
    b.linear("linear", x, p["classes"])


def _wide_classifier(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.conv_bn_relu("expand", -1, p["width"], 1)
    b.linear("linear", b.flatten("flatten", b.global_pool("pool", x)), p["classes"])


STEM = BLOCKS["conv"]
"""The first layers of most networks."""

CLASSIFIER = Operation(("classes",), _classifier)
"""The last layers: mean over space, where there is any, and linear."""

WIDE_CLASSIFIER = Operation(("classes", "width"), _wide_classifier)
"""A 1x1 convolution to `width`, then the same."""
