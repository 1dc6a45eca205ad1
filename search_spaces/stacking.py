"""Networks of two cells, "normal" and "reduction", that read the outputs of the two cells before them.

A template says how copies of the same two cells are stacked: "cifar" for small images, "imagenet" for large
ones. It is a setting of the space and no part of an architecture, so that what was found on one template
is an architecture of the other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node, Params
from search_spaces.cell_ops import PREPARE
from search_spaces.fragments import Shape
from search_spaces.genes import Gene, GeneSpace
from search_spaces.operations import PLACE, Operation
from search_spaces.plan import Placed

NORMAL, REDUCTION = "normal", "reduction"
CELLS = (NORMAL, REDUCTION)
CIFAR, IMAGENET = "cifar", "imagenet"

INPUTS: tuple[Params, Params] = ((("state", 0),), (("state", 1),))
"""Params of the two input nodes: a cell that swaps its inputs is another cell."""

STEM = Operation(PLACE, lambda b, p: b.conv_bn("block", -1, p["width"], 3, p["stride"]))
"""A 3x3 convolution and batch norm."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One cell of a stack.

    Attributes:
        graph: whose copy it is, "normal" or "reduction".
        width: channels of each of its nodes.
        bypassed: the next cell reads, besides this one's output, not what this one read last but what it
            read before that.
    """

    graph: str
    width: int
    bypassed: bool = False


def staged(cells: int, reductions: Collection[int], filters: int, bypassed: bool = False) -> tuple[Copy, ...]:
    """`cells` copies, those at `reductions` of the reduction cell; each of them doubles the width."""
    stack = []
    width = filters
    for place in range(cells):
        if place in reductions:
            width *= 2
            stack.append(Copy(REDUCTION, width, bypassed))
        else:
            stack.append(Copy(NORMAL, width))
    return tuple(stack)


class StackedSpace(GeneSpace):
    """A space of a normal and a reduction cell.

    Args:
        input_shape, classes, crossover: as in `GeneSpace`.
        genes: those of each cell, by `CELLS`.
        template: "cifar" or "imagenet".
        halvings: how often the template halves the side of an image.

    Raises:
        ValueError: an argument is senseless.
    """

    stack: tuple[Copy, ...]
    """The cells from the stem to the head; a subclass sets it."""

    def __init__(
        self,
        input_shape: Shape,
        classes: int,
        genes: Mapping[str, Sequence[Gene]],
        crossover: str,
        template: str,
        halvings: Mapping[str, int],
    ) -> None:
        super().__init__(input_shape, classes, genes, crossover)
        if template not in halvings:
            raise ValueError(f"template must be one of {sorted(halvings)}, but got {template!r}")
        if min(self.input_shape[1:]) < 2 ** halvings[template]:
            raise ValueError(
                f"the sides of input_shape must be at least {2 ** halvings[template]} for template "
                f"{template!r}, but got {self.input_shape}"
            )
        self.template = template

    @abstractmethod
    def stem(self, plan: list[Placed]) -> tuple[int, int]:
        """Appends the stem; gives the places that stand for the outputs of the two cells before the first,
        the older one first."""

    @abstractmethod
    def feed(
        self, plan: list[Placed], name: str, graph: Graph, before: int, last: int, width: int
    ) -> tuple[int, int]:
        """Appends what prepares the inputs of a cell; gives their places in the order of its input nodes.

        Args:
            name: of the cell's copy; what is appended is named "`name`.pre0" and "`name`.pre1".
            before, last: places of the outputs of the two cells before it.
        """

    @abstractmethod
    def head(self, plan: list[Placed], last: int) -> None:
        """Appends the head."""

    def prepare(self, plan: list[Placed], name: str, source: int, like: int, width: int) -> int:
        """Appends what brings `source` to this width and to the side of `like`, which is the same or half."""
        halved = self.shape(plan, source)[1:] != self.shape(plan, like)[1:]
        return self.place(plan, name, PREPARE, source, stride=2 if halved else 1, width=width)

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        before, last = self.stem(plan)
        copies: Counter[str] = Counter()
        for copy in self.stack:
            name = f"{copy.graph}.{copies[copy.graph]}"
            copies[copy.graph] += 1
            graph = arch.graph(copy.graph)
            sources = self.feed(plan, name, graph, before, last, copy.width)
            stride = 2 if copy.graph == REDUCTION else 1
            output = self.place_graph(plan, name, graph, sources, copy.width, stride)
            before, last = before if copy.bypassed else last, output
        self.head(plan, last)
        return plan


def state_read(node: Node, states: Mapping[int, int]) -> int:
    """Number of the state that an op reads, given those of the nodes that are states."""
    if len(node.inputs) != 1 or node.inputs[0] not in states:
        raise InvalidArchitecture(
            f"an op must read one state before it, one of the nodes {sorted(states)}, but got {node.inputs}"
        )
    return states[node.inputs[0]]
