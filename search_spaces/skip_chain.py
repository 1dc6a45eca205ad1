"""A chain of convolutions with anchor skips (Zoph & Le 2017, sections 3.1, 3.3 and 4.1).

Each layer has a filter height, a filter width, a number of filters, and a bit for each earlier layer that
says whether it reads it. What the bits leave open is settled as in section 3.3: several inputs are
concatenated; a layer that reads none reads the image; all layers that none reads are concatenated for the
classifier. Padding inputs of different sizes with zeros is not needed: all strides are 1, as in the paper's
first set of experiments, so all sizes agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nas.architecture import Architecture, Node, Scalar
from search_spaces.fragments import Builder, Shape
from search_spaces.genes import Gene, GeneSpace, Values
from search_spaces.graph_space import INPUT, Site
from search_spaces.operations import CLASSIFIER, JOINS, Operation
from search_spaces.plan import Placed

CONV_GENES = ("filter_height", "filter_width", "filters")


def _conv(b: Builder, p: Mapping[str, Any]) -> None:
    b.conv_bn_relu("block", -1, p["filters"], (p["filter_height"], p["filter_width"]))


class SkipChainSpace(GeneSpace):
    """Node `i` is layer `i`, counted from 1; behind them come the ids of the concatenations.

    Args:
        input_shape: (channels, height, width).
        classes: number of classes.
        layers: number of convolutions.
        heights, widths: of their filters, odd.
        filters: numbers of them.
        crossover: its kind, see `search_spaces.crossover`.

    Example:
        >>> space = SkipChainSpace(layers=2, heights=(3,), widths=(3, 5), filters=(24,))
        >>> [gene.name for gene in space.genes["net"]][3:]
        ['filter_height 2', 'filter_width 2', 'filters 2', '2<1']
        >>> arch = space.architecture({"net": (3, 5, 24, 3, 3, 24, 0)})  # both read the image
        >>> [(node.op, node.inputs) for node in arch.graph()]
        [('input', ()), ('conv', (0,)), ('conv', (0,)), ('concat', (1, 2))]
    """

    name = "skip_chain"
    operations: ClassVar = {"conv": Operation(CONV_GENES, _conv), "concat": JOINS["concat"]}

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        layers: int = 6,
        heights: Sequence[int] = (1, 3, 5, 7),
        widths: Sequence[int] = (1, 3, 5, 7),
        filters: Sequence[int] = (24, 36, 48, 64),
        crossover: str = "uniform",
    ) -> None:
        if type(layers) is not int or layers < 1:
            raise ValueError(f"`layers >= 1` must hold, but got {layers=}")
        choices = {"heights": tuple(heights), "widths": tuple(widths), "filters": tuple(filters)}
        for name, values in choices.items():
            positive = all(type(value) is int and value > 0 for value in values)
            if not values or not positive or len(set(values)) < len(values):
                raise ValueError(f"{name} must be different positive integers, but got {list(values)}")
            if name != "filters" and any(value % 2 == 0 for value in values):
                raise ValueError(f"{name} must be odd, but got {list(values)}")
        self.layers = layers
        genes = []
        for layer in range(1, layers + 1):
            genes += [Gene(f"{g} {layer}", c) for g, c in zip(CONV_GENES, choices.values(), strict=True)]
            genes += [Gene(f"{layer}<{source}", (0, 1)) for source in range(1, layer)]
        super().__init__(input_shape, classes, {"net": genes}, crossover)

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        yield Node(0, INPUT)
        unread = dict.fromkeys(range(1, self.layers + 1))
        place = 0
        for layer in range(1, self.layers + 1):
            anchors = place + len(CONV_GENES)
            sources = tuple([s for s in range(1, layer) if values[anchors + s - 1]])
            for source in sources:
                unread.pop(source, None)
            if len(sources) > 1:
                yield Node(self.layers + layer, "concat", sources)
                sources = (self.layers + layer,)
            params = tuple(zip(CONV_GENES, values[place:anchors], strict=True))
            yield Node(layer, "conv", sources or (0,), params)
            place = anchors + layer - 1
        if len(unread) > 1:
            yield Node(2 * self.layers + 1, "concat", tuple(unread))

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[Scalar]:
        place = 1
        number: dict[int, int] = {}
        for layer in range(1, self.layers + 1):
            inputs = nodes[place].inputs
            if nodes[place].op == "concat":
                place += 1
            conv = nodes[place]
            for name in CONV_GENES:
                yield conv[name]
            read = [number.get(source) for source in inputs]
            for source in range(1, layer):
                yield int(source in read)
            number[conv.id] = layer
            place += 1

    def site(self, graph: str) -> Site:
        return Site((self.input_shape,))

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        net = self.place_graph(plan, "net", arch.graph())
        self.place(plan, "head", CLASSIFIER, net, classes=self.classes)
        return plan
