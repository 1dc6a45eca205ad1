"""The operations that nodes name, and what each is made of. A new op is one function and one line below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from nas.architecture import InvalidArchitecture, Node, Params
from search_spaces.fragments import Builder, Fragment, Shape

Emit = Callable[[Builder, Mapping[str, int]], None]


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
        params: names of its integer parameters.
        emit: writes the layers; inputs are -1, -2 … in order.
        inputs: smallest and largest number of inputs (None for no largest).
    """

    params: tuple[str, ...]
    emit: Emit
    inputs: tuple[int, int | None] = (1, 1)
    _cached: Callable[[Params, tuple[Shape, ...]], Fragment] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cached", lru_cache(maxsize=65536)(self._fragment))

    def fragments(self, params: Params, shapes: tuple[Shape, ...]) -> Fragment:
        """The layers at these input shapes; raises `InvalidArchitecture` if they cannot be."""
        for name, value in params:  # not in the cache, to which 1, 1.0 and True are equal
            if type(value) is not int or value < 1:
                raise InvalidArchitecture(f"parameter {name!r} must be a positive integer, but got {value!r}")
        return self._cached(params, shapes)

    def _fragment(self, params: Params, shapes: tuple[Shape, ...]) -> Fragment:
        fewest, most = self.inputs
        if len(shapes) < fewest or (most is not None and len(shapes) > most):
            rule = f"{fewest} input(s)" if fewest == most else f"at least {fewest} inputs"
            raise InvalidArchitecture(f"it must have {rule}, but got {len(shapes)}")
        builder = Builder(*shapes)
        given = {name: int(value) for name, value in params}
        if set(given) != set(self.params):
            raise InvalidArchitecture(
                f"its parameters must be {sorted(self.params)}, but got {sorted(given)}"
            )
        self.emit(builder, given)
        return builder.done()


def fragment_of(table: Mapping[str, Operation], node: Node, shapes: tuple[Shape, ...]) -> Fragment:
    """What `node` is made of at these input shapes.

    Raises:
        InvalidArchitecture: unknown op, wrong number of inputs, wrong parameters, shapes that do not fit.
    """
    operation = table.get(node.op)
    if operation is None:
        raise InvalidArchitecture(f"node {node.id}: op must be one of {sorted(table)}, but got {node.op!r}")
    try:
        return operation.fragments(node.params, shapes)
    except InvalidArchitecture as error:
        raise InvalidArchitecture(f"node {node.id} ({node.op}): {error}") from error


# --- the ops -----------------------------------------------------------------------------------------


def _conv(b: Builder, p: Mapping[str, int]) -> None:
    _odd(p["kernel"])
    b.conv_bn_relu("block", -1, p["width"], p["kernel"], p["stride"])


def _sepconv(b: Builder, p: Mapping[str, int]) -> None:
    """Depthwise-separable convolution (MobileNet, Howard et al. 2017, figure 3)."""
    _odd(p["kernel"])
    channels = b.shape(-1)[0]
    depthwise = b.conv_bn_relu("depthwise", -1, channels, p["kernel"], p["stride"], groups=channels)
    b.conv_bn_relu("pointwise", depthwise, p["width"], 1)


def _mbconv(b: Builder, p: Mapping[str, int]) -> None:
    """Inverted residual (MobileNetV2, Sandler et al. 2018, table 1); residual where shapes agree."""
    _odd(p["kernel"])
    hidden = b.shape(-1)[0] * p["expand"]
    x = b.conv_bn_relu("expand", -1, hidden, 1)
    x = b.conv_bn_relu("depthwise", x, hidden, p["kernel"], p["stride"], groups=hidden)
    x = b.conv_bn("project", x, p["width"], 1)
    if b.shape(x) == b.shape(-1):
        b.add("residual", (x, -1))


def _identity(b: Builder, p: Mapping[str, int]) -> None:
    """Nothing where the shape stays, else a 1x1 convolution and batch norm."""
    if p["stride"] != 1 or p["width"] != b.shape(-1)[0]:
        b.conv_bn("projection", -1, p["width"], 1, p["stride"])


def _add(b: Builder, _: Mapping[str, int]) -> None:
    b.add("sum", [-1 - i for i in range(b.inputs)])


def _concat(b: Builder, _: Mapping[str, int]) -> None:
    b.concat("concat", [-1 - i for i in range(b.inputs)])


def _odd(kernel: int) -> None:
    if kernel % 2 == 0:
        raise InvalidArchitecture(f"kernel must be odd, but got {kernel}")


BLOCKS: Mapping[str, Operation] = {
    "conv": Operation(("kernel", "stride", "width"), _conv),
    "sepconv": Operation(("kernel", "stride", "width"), _sepconv),
    "mbconv": Operation(("expand", "kernel", "stride", "width"), _mbconv),
    "identity": Operation(("stride", "width"), _identity),
}
"""Blocks of a chain: they take a feature map to one of `width` channels, `stride` times smaller."""

JOINS: Mapping[str, Operation] = {
    "add": Operation((), _add, (1, None)),
    "concat": Operation((), _concat, (1, None)),
}
"""Ops that join several inputs."""
