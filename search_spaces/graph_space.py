"""What every graph-encoded space gets for free: check, canonical form, cost, network.

A space is a table of operations and a skeleton: `plan` says where the nodes of an architecture stand
in the network (once in a chain, once a copy in stacked cells), `check_form` what is allowed to be written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeVar

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from nas.labelling import COMMUTATIVE
from nas.protocols import Cost
from search_spaces.fragments import Builder, Fragment, Shape
from search_spaces.operations import Operation, fragment_of
from search_spaces.plan import Placed, plan_cost

if TYPE_CHECKING:
    from search_spaces.modules import Network

T = TypeVar("T")

INPUT = "input"
"""The op of the nodes that stand for a graph's inputs. They have no layers."""


class GraphSpace(ABC):
    """Base of the spaces of this package; a space of your own may, but need not, derive from it.

    Attributes:
        name: stands in every architecture of the space.
        graphs: names of the graphs of an architecture, in order.
        operations: the table of ops that nodes may name.
        input_shape: (channels, height, width) of one input.
        classes: number of classes.
    """

    name: str
    graphs: tuple[str, ...] = ("net",)
    operations: ClassVar[Mapping[str, Operation]]

    def __init__(self, input_shape: Shape, classes: int) -> None:
        if len(input_shape) != 3 or any(type(side) is not int or side < 1 for side in input_shape):
            raise ValueError(
                f"input_shape must be (channels, height, width), all positive, but got {tuple(input_shape)}"
            )
        if type(classes) is not int or classes < 2:
            raise ValueError(f"`classes >= 2` must hold, but got {classes=}")
        self.input_shape = tuple(input_shape)
        self.classes = classes

    # --- what a space says -------------------------------------------------------------------------

    @abstractmethod
    def plan(self, arch: Architecture) -> list[Placed]:
        """The network of `arch`, written or canonical; raises `InvalidArchitecture` if shapes do not fit."""

    @abstractmethod
    def check_form(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture` unless `arch` is written as the space writes it."""

    @abstractmethod
    def input_shapes(self, graph: str) -> tuple[Shape, ...]:
        """Shapes of the input nodes of a graph, in order, at the place that `canonical` looks at."""

    # --- what follows from it ----------------------------------------------------------------------

    def check(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture`, naming node and rule, if `arch` is not of this space."""
        if arch.space != self.name:
            raise InvalidArchitecture(
                f"the architecture must be of space {self.name!r}, but it is of {arch.space!r}"
            )
        names = tuple(name for name, _ in arch.graphs)
        if names != self.graphs:
            raise InvalidArchitecture(f"its graphs must be {self.graphs}, but got {names}")
        for _, graph in arch.graphs:
            for node in graph:
                if node.op == INPUT and node.inputs:
                    raise InvalidArchitecture(f"node {node.id} (input): it must have no inputs")
        self.check_form(arch)
        self.plan(arch)

    def cost(self, arch: Architecture) -> Cost:
        """Cost of the form given, by shape inference; no module is built."""
        return plan_cost(self.input_shape, self.plan(arch))

    def build(self, arch: Architecture) -> Network:
        """The form given as a module: float32[batch, *input_shape] -> float32[batch, classes].

        Parameter names are "<graph>.n<node id>.<layer>…": they stay when other nodes change.
        """
        from search_spaces.modules import Network

        return Network(self.plan(arch))

    def canonical(self, arch: Architecture) -> Architecture:
        """Dead nodes and no-ops removed; surviving ids kept."""
        return Architecture(
            arch.space,
            tuple((name, self._contracted(graph, self.input_shapes(name))) for name, graph in arch.graphs),
            arch.params,
        )

    def _contracted(self, graph: Graph, input_shapes: tuple[Shape, ...]) -> Graph:
        """A node whose fragment has no layers, or that sums one tensor, is its own input."""
        stands_for: dict[int, int] = {}
        shapes: dict[int, Shape] = {}
        kept: dict[int, Node] = {}
        inputs = iter(input_shapes)
        for node in graph:
            if node.op == INPUT:
                shapes[node.id] = _next_input(inputs, node)
            else:
                sources = tuple(stands_for[source] for source in node.inputs)
                fragment = fragment_of(self.operations, node, tuple(shapes[source] for source in sources))
                if len(sources) == 1 and (not fragment.layers or node.op in (COMMUTATIVE, "concat")):
                    stands_for[node.id] = sources[0]
                    continue
                if sources != node.inputs:
                    node = Node(node.id, node.op, sources, node.params)  # noqa: PLW2901
                shapes[node.id] = fragment.shape
            stands_for[node.id] = node.id
            kept[node.id] = node
        alive: set[int] = set()
        waiting = [stands_for[graph.output.id]]
        while waiting:
            alive.add(current := waiting.pop())
            waiting.extend(set(kept[current].inputs) - alive)
        return Graph(tuple(node for node in kept.values() if node.id in alive))

    def place_graph(self, plan: list[Placed], graph: Graph, prefix: str, inputs: tuple[int, ...]) -> int:
        """Appends the nodes of `graph` to `plan` and returns the place of its output.

        Args:
            prefix: of the module names, e.g. "net".
            inputs: places that the input nodes stand for, in order; -1 is the network's input.
        """
        places: dict[int, int] = {}
        sources = iter(inputs)
        for node in graph:
            if node.op == INPUT:
                places[node.id] = _next_input(sources, node)
                continue
            feeds = tuple(places[source] for source in node.inputs)
            shapes = tuple(self._shape(plan, feed) for feed in feeds)
            fragment = fragment_of(self.operations, node, shapes)
            if fragment.layers:
                plan.append(Placed(f"{prefix}.n{node.id}", fragment, feeds))
                places[node.id] = len(plan) - 1
            else:
                places[node.id] = feeds[0]
        return places[graph.output.id]

    def place(self, plan: list[Placed], name: str, source: int, write: Callable[[Builder], object]) -> int:
        """Appends a part of the skeleton, written by `write` from the output of place `source`."""
        builder = Builder(self._shape(plan, source))
        write(builder)
        fragment: Fragment = builder.done()
        plan.append(Placed(name, fragment, (source,)))
        return len(plan) - 1

    def _shape(self, plan: list[Placed], place: int) -> Shape:
        return plan[place].fragment.shape if place >= 0 else self.input_shape


def _next_input(inputs: Iterator[T], node: Node) -> T:
    try:
        return next(inputs)
    except StopIteration:
        raise InvalidArchitecture(f"node {node.id} (input): the graph has too many input nodes") from None
