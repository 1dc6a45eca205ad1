"""Networks for tables: chains of fully connected layers, with batch norm and residual blocks.

    input -> dense -> (dense | residual) -> … -> linear

A dense layer is linear, batch norm, activation. A residual block keeps its width and adds what it reads:
x + (linear, batch norm, activation, linear, batch norm), a residual branch of two layers as in He et al.
2016, "Deep Residual Learning for Image Recognition", figure 2, without an activation behind the sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nas.architecture import Architecture
from search_spaces.fragments import ACTIVATIONS, Builder, Shape
from search_spaces.operations import CLASSIFIER, Operation
from search_spaces.plan import Placed
from search_spaces.sequences import Layer, SequenceSpace, layer


def _dense(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.batch_norm("bn", b.linear("linear", -1, p["width"]))
    b.activation("activation", x, p["activation"])


def _residual(b: Builder, p: Mapping[str, Any]) -> None:
    (width,) = b.shape(-1)
    x = b.batch_norm("a.bn", b.linear("a.linear", -1, width))
    x = b.activation("activation", x, p["activation"])
    x = b.batch_norm("b.bn", b.linear("b.linear", x, width))
    b.add("sum", (x, -1))


class MLPSpace(SequenceSpace):
    """Chains of dense layers and residual blocks; the first layer is dense.

    Args:
        input_shape: (features,).
        classes: number of classes.
        depth: smallest and largest number of layers, the classifier aside; a residual block counts as one.
        widths: units of a dense layer.
        activations: of `search_spaces.fragments.ACTIVATIONS`.
        residual: whether there are residual blocks.

    Raises:
        ValueError: an argument is senseless.

    Example:
        >>> space = MLPSpace((4,), 3, depth=(1, 2), widths=(8,), activations=("relu",))
        >>> space.size()  # dense; dense, dense; dense, residual
        3
    """

    name = "mlp"
    operations: ClassVar = {
        "dense": Operation(("width",), _dense, options={"activation": ACTIVATIONS}),
        "residual": Operation((), _residual, options={"activation": ACTIVATIONS}),
    }
    axes = (0,)

    def __init__(
        self,
        input_shape: Shape = (16,),
        classes: int = 10,
        depth: Sequence[int] = (1, 6),
        widths: Sequence[int] = (16, 32, 64, 128),
        activations: Sequence[str] = ("relu", "silu"),
        residual: bool = True,
    ) -> None:
        super().__init__(input_shape, classes, depth)
        if self.depth[0] < 1:
            raise ValueError(f"`1 <= smallest depth` must hold, but got depth={tuple(depth)}")
        if not widths or len(set(widths)) < len(widths) or any(type(w) is not int or w < 1 for w in widths):
            raise ValueError(f"widths must be different positive integers, but got {list(widths)}")
        if not activations or set(activations) - set(ACTIVATIONS) or len(set(activations)) < len(activations):
            raise ValueError(
                f"activations must be different ones of {', '.join(ACTIVATIONS)}, but got {list(activations)}"
            )
        if type(residual) is not bool:
            raise ValueError(f"residual must be true or false, but got {residual!r}")
        self.dense = tuple(layer("dense", width=w, activation=a) for w in widths for a in activations)
        self.blocks = tuple(layer("residual", activation=a) for a in activations) if residual else ()

    def start(self) -> str:
        return "input"

    def layers(self, state: object) -> Sequence[Layer]:
        return self.dense if state == "input" else self.dense + self.blocks

    def step(self, state: object, layer: Layer) -> str:
        return "hidden"

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        net = self.place_graph(plan, "net", arch.graph(), (-1,))
        self.place(plan, "head", CLASSIFIER, net, classes=self.classes)
        return plan
