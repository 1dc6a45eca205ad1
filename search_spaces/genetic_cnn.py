"""Genetic CNN (Xie & Yuille 2017, section 3.1): stages of ordered nodes, one bit for each pair of them.

A node sums what it reads, then convolves. A node that reads none reads the stage's default input, one that
none reads goes to the default output; both of them convolve too. A node without any connection is left out,
and a stage without any is one convolution. Each stage ends with a pooling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nas.architecture import Architecture, Node
from search_spaces.bit_strings import (
    EMPTY_ID,
    FIRST_ID,
    IN_ID,
    LAST_ID,
    LAST_JOIN_ID,
    bits_of,
    joined,
    node_of,
    pairs,
    read_pairs,
    text_of,
    write_pairs,
)
from search_spaces.fragments import Builder, Shape
from search_spaces.genes import GeneSpace, Values
from search_spaces.graph_space import INPUT, Site
from search_spaces.operations import CLASSIFIER, JOINS, Operation
from search_spaces.plan import Placed


def _dense(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.relu("relu", b.linear("hidden", b.flatten("flatten", -1), p["width"]))
    b.linear("linear", x, p["classes"])


POOL = Operation((), lambda b, _: b.pool("pool", -1, "max_pool", 2, 2, pad=False))
DENSE = Operation(("classes", "width"), _dense)


class GeneticCNNSpace(GeneSpace):
    """Every bit string is a network; CIFAR-10's space, the default, has 19 bits, 524,288 written forms.

    The paper does not say how it pools: here it is the maximum of 2 x 2 places.

    Args:
        input_shape: (channels, height, width), sides at least 2^stages.
        classes: number of classes.
        nodes: number of nodes of each stage; for MNIST the paper has (3, 5).
        filters: channels of each stage; for MNIST (20, 50).
        hidden: width of the fully connected layer before the last; 0 for the mean over space instead.
        crossover: its kind, see `search_spaces.crossover`; the paper swaps whole stages.

    Example:
        >>> space = GeneticCNNSpace()
        >>> arch = space.decode("1-01|0-01-100|0-11-101-0001")
        >>> [node.op for node in arch.graph("stage2")]
        ['input', 'conv', 'conv', 'conv', 'conv', 'conv', 'add', 'conv']
        >>> space.code(arch), space.size()
        ('1-01|0-01-100|0-11-101-0001', 524288)
    """

    name = "genetic_cnn"
    operations: ClassVar = {
        "conv": Operation((), lambda b, p: b.conv_bn_relu("block", -1, p["width"], 3), place=("width",)),
        "add": JOINS["add"],
        "isolated": Operation((), lambda b, _: None),
        "empty": Operation((), lambda b, _: None),
    }

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        nodes: Sequence[int] = (3, 4, 5),
        filters: Sequence[int] = (8, 16, 32),
        hidden: int = 128,
        crossover: str = "stage",
    ) -> None:
        if not nodes or any(type(n) is not int or n < 2 for n in nodes):
            raise ValueError(f"nodes must be integers >= 2, one a stage, but got {list(nodes)}")
        if len(filters) != len(nodes) or any(type(f) is not int or f < 1 for f in filters):
            raise ValueError(
                f"filters must be {len(nodes)} positive integers, one a stage, but got {list(filters)}"
            )
        if type(hidden) is not int or hidden < 0:
            raise ValueError(f"`hidden >= 0` must hold, but got {hidden=}")
        self.nodes = {f"stage{stage}": n for stage, n in enumerate(nodes, start=1)}
        self.filters = dict(zip(self.nodes, filters, strict=True))
        self.hidden = hidden
        super().__init__(input_shape, classes, {s: pairs(n) for s, n in self.nodes.items()}, crossover)
        if min(self.input_shape[1:]) < 2 ** len(nodes):
            raise ValueError(
                f"the sides of input_shape must be at least {2 ** len(nodes)} to be halved {len(nodes)} "
                f"times, but got {self.input_shape}"
            )
        self._groups = [tuple(range(1, n)) for n in nodes]

    def decode(self, text: str) -> Architecture:
        """The architecture of the paper's string, "1-01|0-01-100|0-11-101-0001".

        Raises:
            InvalidArchitecture: the text is no such string.
        """
        return self.architecture(dict(zip(self.graphs, bits_of(text, self._groups), strict=True)))

    def code(self, arch: Architecture) -> str:
        """The string of a written form; raises `InvalidArchitecture` as `check_form` does."""
        return text_of(list(self.values(arch).values()), self._groups)

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        nodes, ends = write_pairs(self.nodes[graph], values, "add")
        yield node_of(IN_ID, INPUT)
        yield node_of(FIRST_ID, "conv", (IN_ID,))
        yield from nodes
        if ends:
            yield from joined("add", LAST_JOIN_ID, tuple(ends), "conv", LAST_ID)
        else:
            yield node_of(EMPTY_ID, "empty", (FIRST_ID,))

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[int]:
        return read_pairs(nodes, self.nodes[graph], "add")

    def site(self, graph: str) -> Site:
        stage = self.graphs.index(graph)
        channels = self.filters[self.graphs[stage - 1]] if stage else self.input_shape[0]
        return Site(((channels, *(side // 2**stage for side in self.input_shape[1:])),), self.filters[graph])

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        x = -1
        for name, graph in arch.graphs:
            x = self.place_graph(plan, name, graph, (x,), self.filters[name])
            x = self.place(plan, f"pool_{name}", POOL, x)
        if self.hidden:
            self.place(plan, "head", DENSE, x, classes=self.classes, width=self.hidden)
        else:
            self.place(plan, "head", CLASSIFIER, x, classes=self.classes)
        return plan
