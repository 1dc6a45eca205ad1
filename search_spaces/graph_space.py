"""What every graph-encoded space gets for free: check, canonical form, cost, network.

A space is a table of operations and a skeleton: `plan` says where the graphs of an architecture stand
in the network (once in a chain, once a copy in stacked cells), `check_form` what is allowed to be written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from nas.labelling import COMMUTATIVE
from nas.protocols import Cost
from search_spaces.fragments import Fragment, Shape
from search_spaces.operations import Operation, fragment_of
from search_spaces.plan import Cell, Placed, plan_cost

if TYPE_CHECKING:
    from search_spaces.modules import Network

Encoding = Callable[[Architecture], NDArray[np.float64]]

INPUT = "input"
"""The op of the nodes that stand for a graph's inputs. They have no layers."""

REMEMBERED = 1024
"""Graphs and architectures of which what was made is kept at hand: a child shares most with its parent."""

FRAGMENTS = 8192
"""Nodes, in places, of which the layers are kept at hand."""

SHAPES = {
    0: "(features,)",
    1: "(channels, length)",
    2: "(channels, height, width)",
}


class Site(NamedTuple):
    """Where a graph stands.

    Attributes:
        inputs: shapes of its input nodes, in order.
        width: what ops take as their width, where their node does not say it.
        stride: likewise, of the ops that read an input node; all others have stride 1.
    """

    inputs: tuple[Shape, ...]
    width: int = 0
    stride: int = 1


class GraphSpace(ABC):
    """Base of the spaces of this package; a space of your own may, but need not, derive from it.

    Attributes:
        name: stands in every architecture of the space.
        graphs: names of the graphs of an architecture, in order.
        params: names of its parameters that belong to no node, sorted.
        operations: the table of ops that nodes may name.
        axes: numbers of spatial axes that an input may have: 2 for images, 1 for series, 0 for tables.
        input_shape: (channels, height, width), (channels, length) or (features,) of one input.
        classes: number of classes.
    """

    name: str
    graphs: tuple[str, ...] = ("net",)
    params: tuple[str, ...] = ()
    operations: ClassVar[Mapping[str, Operation]]
    axes: ClassVar[tuple[int, ...]] = (2,)

    def __init__(self, input_shape: Shape, classes: int) -> None:
        if len(input_shape) - 1 not in self.axes or any(type(n) is not int or n < 1 for n in input_shape):
            raise ValueError(
                f"input_shape must be {' or '.join(SHAPES[axes] for axes in self.axes)}, all positive, but "
                f"got {tuple(input_shape)}"
            )
        if type(classes) is not int or classes < 2:
            raise ValueError(f"`classes >= 2` must hold, but got {classes=}")
        self.input_shape = tuple(input_shape)
        self.classes = classes
        self._remember()

    def _remember(self) -> None:
        self._fragments = lru_cache(FRAGMENTS)(self._fragment)
        self._cells = lru_cache(REMEMBERED)(self._cell)
        self._contractions = lru_cache(REMEMBERED)(self._contracted)
        self._networks = lru_cache(REMEMBERED)(self._network)
        self._costs = lru_cache(REMEMBERED)(self._cost)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not hasattr(value, "cache_info")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._remember()

    # --- what a space says -------------------------------------------------------------------------

    @abstractmethod
    def plan(self, arch: Architecture) -> list[Placed]:
        """The network of `arch`, written or canonical; raises `InvalidArchitecture` if shapes do not fit."""

    @abstractmethod
    def check_form(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture` unless `arch` is written as the space writes it."""

    @abstractmethod
    def site(self, graph: str) -> Site:
        """A place where the graph of this name stands: what is a no-op there is one everywhere."""

    @abstractmethod
    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """A written form as `float64[d]`, of a length that is fixed for the space."""

    # --- what follows from it ----------------------------------------------------------------------

    def encodings(self) -> dict[str, Encoding]:
        """The encodings that there are, by name: "one_hot" is `encode`; others are of some spaces only."""
        return {"one_hot": self.encode}

    def check(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture`, naming node and rule, if `arch` is not of this space."""
        self.check_names(arch)
        for _, graph in arch.graphs:
            for node in graph:
                if node.op == INPUT and node.inputs:
                    raise InvalidArchitecture(f"node {node.id} (input): it must have no inputs")
        self.check_form(arch)
        self.plan(arch)

    def check_names(self, arch: Architecture) -> None:
        """Raises `InvalidArchitecture` unless space, graphs and parameters have the names they must have."""
        if arch.space != self.name:
            raise InvalidArchitecture(
                f"the architecture must be of space {self.name!r}, but it is of {arch.space!r}"
            )
        names = tuple([name for name, _ in arch.graphs])
        if names != self.graphs:
            raise InvalidArchitecture(f"its graphs must be {self.graphs}, but got {names}")
        given = tuple([name for name, _ in arch.params])
        if given != self.params:
            raise InvalidArchitecture(f"its parameters must be {self.params}, but got {dict(arch.params)}")

    def cost(self, arch: Architecture) -> Cost:
        """Cost of the form given, by shape inference; no module is built."""
        return self._costs(arch)

    def _cost(self, arch: Architecture) -> Cost:
        self.check_names(arch)
        return plan_cost(self.input_shape, self.plan(arch))

    def build(self, arch: Architecture) -> Network:
        """The form given as a module: float32[batch, *input_shape] -> float32[batch, classes].

        Parameter names hold the place of the graph and the id of the node, "net.n3.…" or
        "normal.0.n3.…": they stay when other nodes change.
        """
        from search_spaces.modules import Network

        self.check_names(arch)
        return Network(self.plan(arch))

    def adopted(self, arch: Architecture) -> Architecture:
        """The same graphs as an architecture of this space, from one that differs in its arguments."""
        return Architecture(self.name, arch.graphs, arch.params)

    def canonical(self, arch: Architecture) -> Architecture:
        """Dead nodes, zeros and no-ops removed; surviving ids kept."""
        return self._networks(arch)

    def network_key(self, arch: Architecture) -> str:
        """The key of `canonical(arch)`."""
        return self.canonical(arch).key

    def _network(self, arch: Architecture) -> Architecture:
        """What `canonical` gives, and remembers. Override it where more than graphs has a normal form."""
        self.check_names(arch)
        return Architecture(
            arch.space,
            tuple([(name, self._contractions(graph, self.site(name))) for name, graph in arch.graphs]),
            arch.params,
        )

    def _contracted(self, graph: Graph, site: Site) -> Graph:
        """A node whose fragment has no layers, or that sums one tensor, is its own input; a sum that only
        another sum reads is part of it.

        What sees only zeros counts as zero: without an input it computes a constant. A graph that sees
        nothing is one zero op on its first input.
        """
        inputs = _inputs(graph, site)
        reads = set(inputs)
        sizes = dict(zip(inputs, site.inputs, strict=False))
        stands_for: dict[int, int] = {}
        shapes: dict[int, Shape] = {}
        kept: dict[int, Node] = {}
        zeros: set[int] = set()  # nodes that put out zeros; they stand for a zero op
        for node in graph:
            node_id = node.id
            if node.op == INPUT:
                shapes[node_id] = sizes[node_id]
                stands_for[node_id] = node_id
                kept[node_id] = node
                continue
            given = node.inputs
            if zeros and node.op == COMMUTATIVE:
                given = tuple([source for source in given if source not in zeros]) or given
            sources = tuple([stands_for[source] for source in given])
            stride = 1 if site.stride == 1 or reads.isdisjoint(node.inputs) else site.stride
            fragment = self._fragments(node, tuple([shapes[s] for s in sources]), stride, site.width)
            if zeros and zeros.issuperset(given) and fragment.shape == shapes[sources[0]]:
                zeros.add(node_id)
                stands_for[node_id] = sources[0]
                continue
            if (
                len(sources) == 1
                and (not fragment.layers or node.op in (COMMUTATIVE, "concat"))
                and not (
                    sources[0] in inputs and (site.stride > 1 or (len(inputs) > 1 and node is graph.output))
                )
            ):
                stands_for[node_id] = sources[0]
                continue
            if self.operations[node.op].zero:
                zeros.add(node_id)
            shapes[node_id] = fragment.shape
            stands_for[node_id] = node_id
            kept[node_id] = node if sources == node.inputs else Node(node_id, node.op, sources, node.params)
        output = stands_for[graph.output.id]
        if output in zeros and shapes[output] == shapes[inputs[0]]:
            kept[output] = Node(output, kept[output].op, (inputs[0],), kept[output].params)
        alive = _reached(kept, output)
        if _merge_sums(kept, alive):
            alive = _reached(kept, output)
        alive.update(inputs)
        nodes = tuple([node for node in kept.values() if node.id in alive])
        return graph if len(nodes) == len(graph) and all(map(_is, nodes, graph)) else Graph(nodes)

    # --- placing -----------------------------------------------------------------------------------

    def place_graph(
        self,
        plan: list[Placed],
        name: str,
        graph: Graph,
        sources: tuple[int, ...] = (-1,),
        width: int = 0,
        stride: int = 1,
    ) -> int:
        """Appends `graph` to `plan` and returns the place of its output.

        Args:
            name: of its modules, e.g. "net" or "normal.3".
            sources: places that the input nodes stand for, in order; -1 is the network's input.
            width, stride: what the place says, as in `Site`.
        """
        shapes = tuple([self.shape(plan, source) for source in sources])
        try:
            cell, used = self._cells(graph, Site(shapes, width, stride))
        except InvalidArchitecture:
            with self.named(name):
                raise
        if not cell.places:
            return sources[used[-1 - cell.output]]
        plan.append(Placed(name, cell, tuple([sources[i] for i in used])))
        return len(plan) - 1

    @contextmanager
    def named(self, graph: str) -> Iterator[None]:
        """Errors in here name the graph, where there are several."""
        try:
            yield
        except InvalidArchitecture as error:
            if len(self.graphs) > 1:
                raise InvalidArchitecture(f"{graph}: {error}") from error
            raise

    def place(
        self, plan: list[Placed], name: str, operation: Operation, *sources: int, **params: int | str
    ) -> int:
        """Appends an operation of the skeleton to `plan` and returns its place."""
        shapes = tuple([self.shape(plan, source) for source in sources])
        fragment = operation.fragments(tuple(sorted(params.items())), shapes)
        if not fragment.layers:
            return sources[0]
        plan.append(Placed(name, fragment, sources))
        return len(plan) - 1

    def shape(self, plan: list[Placed], place: int) -> Shape:
        """Shape of what a place puts out; -1 is the network's input."""
        return plan[place].part.shape if place >= 0 else self.input_shape

    def _fragment(self, node: Node, shapes: tuple[Shape, ...], stride: int, width: int) -> Fragment:
        return fragment_of(self.operations, node, shapes, stride, width)

    def _cell(self, graph: Graph, site: Site) -> tuple[Cell, tuple[int, ...]]:
        """The cell of a graph, and which of the site's inputs it reads."""
        inputs = _inputs(graph, site)
        read = {source for node in graph for source in node.inputs} | {graph.output.id}
        used = tuple([i for i, node_id in enumerate(inputs) if node_id in read])
        places: list[Placed] = []
        ends: dict[int, int] = {inputs[i]: -1 - slot for slot, i in enumerate(used)}
        shapes: dict[int, Shape] = {inputs[i]: site.inputs[i] for i in used}
        reads = set(inputs)
        for node in graph:
            if node.op == INPUT:
                continue
            stride = 1 if site.stride == 1 or reads.isdisjoint(node.inputs) else site.stride
            fragment = self._fragments(node, tuple([shapes[s] for s in node.inputs]), stride, site.width)
            feeds = tuple([ends[source] for source in node.inputs])
            shapes[node.id] = fragment.shape
            if fragment.layers:
                ends[node.id] = len(places)
                places.append(Placed(f"n{node.id}", fragment, feeds))
            else:
                ends[node.id] = feeds[0]
        return Cell(tuple([site.inputs[i] for i in used]), tuple(places), ends[graph.output.id]), used


def _reached(nodes: Mapping[int, Node], output: int) -> set[int]:
    """What `output` reads, and itself."""
    reached = {output}
    waiting = [output]
    while waiting:
        for source in nodes[waiting.pop()].inputs:
            if source not in reached:
                reached.add(source)
                waiting.append(source)
    return reached


def _merge_sums(nodes: dict[int, Node], alive: set[int]) -> bool:
    """Sums that are read once, by another sum, are written out there; whether there are any."""
    sums = [node for node in nodes.values() if node.op == COMMUTATIVE and node.id in alive]
    merged = False
    if len(sums) < 2:
        return merged
    reads = Counter([source for node in nodes.values() if node.id in alive for source in node.inputs])
    for node in sums:
        terms: list[int] = []
        for source in node.inputs:
            inner = nodes[source]
            terms.extend(inner.inputs if inner.op == COMMUTATIVE and reads[source] == 1 else (source,))
        if len(terms) > len(node.inputs):
            nodes[node.id] = Node(node.id, node.op, tuple(terms), node.params)
            merged = True
    return merged


def _is(a: object, b: object) -> bool:
    return a is b


def _inputs(graph: Graph, site: Site) -> list[int]:
    """Ids of the input nodes, in the order of the site's inputs: by their parameters, then as listed."""
    nodes = sorted([node for node in graph if node.op == INPUT], key=_params)
    if len(nodes) > len(site.inputs):
        node = nodes[len(site.inputs)]
        raise InvalidArchitecture(f"node {node.id} (input): the graph has too many input nodes")
    return [node.id for node in nodes]


_params = attrgetter("params")
