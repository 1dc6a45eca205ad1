"""The ops that a template may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from search_spaces.fragments import ACTIVATIONS, Builder
from search_spaces.operations import BLOCKS, JOINS, Emit, Operation

LEFT_OUT = "left_out"
"""The op that is written where something optional is not there: it passes its input on."""


def _pool(kind: Literal["max_pool", "avg_pool"]) -> Emit:
    """Odd kernels are padded as a convolution's, even ones are not."""

    def emit(b: Builder, p: Mapping[str, Any]) -> None:
        b.pool("pool", -1, kind, p["kernel"], p["stride"], pad=p["kernel"] % 2 == 1)

    return emit


def _flat(b: Builder) -> int:
    return b.flatten("flatten", -1) if len(b.shape(-1)) > 1 else -1


def _global_pool(b: Builder, _: Mapping[str, Any]) -> None:
    b.flatten("flatten", b.global_pool("pool", -1))


def _squeeze_excite(b: Builder, p: Mapping[str, Any]) -> None:
    b.squeeze_excite("se", -1, max(1, b.shape(-1)[0] // p["reduction"]))


OPERATIONS: Mapping[str, Operation] = {
    **BLOCKS,
    "conv_bn": Operation(
        ("kernel", "stride", "width"),
        lambda b, p: b.conv_bn("block", -1, p["width"], p["kernel"], p["stride"]),
    ),
    "max_pool": Operation(("kernel", "stride"), _pool("max_pool")),
    "avg_pool": Operation(("kernel", "stride"), _pool("avg_pool")),
    "activation": Operation(
        (), lambda b, p: b.activation(p["kind"], -1, p["kind"]), options={"kind": ACTIVATIONS}
    ),
    "squeeze_excite": Operation(("reduction",), _squeeze_excite),
    "global_pool": Operation((), _global_pool),
    "dense": Operation(("width",), lambda b, p: b.relu("relu", b.linear("linear", _flat(b), p["width"]))),
    "linear": Operation(("width",), lambda b, p: b.linear("linear", _flat(b), p["width"])),
    "skip": Operation((), lambda b, _: None),
    **JOINS,
    LEFT_OUT: Operation(("place",), lambda b, _: None),
}
