"""Cells whose vertices have ops, as NAS-Bench-101 has them: written as a graph, read back, changed.

A vertex sums what it reads and applies its op; the output concatenates. What reads the cell's input reads
a projection of its own, and the output adds its projection to the concatenation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from nas.architecture import Graph, InvalidArchitecture, Node
from search_spaces.dag import Columns, pruned, relisted
from search_spaces.graph_space import INPUT

PROJECTION, CONCAT, ADD = "projection", "concat", "add"
JOINING = (ADD, CONCAT, PROJECTION)
"""The ops that a cell's graph has beside those of its vertices."""

Ids = tuple[int | None, ...]
NEW: Ids = (None, None, None)


@dataclass(frozen=True, slots=True)
class Spec:
    """A cell.

    Attributes:
        columns: its edges, as in `search_spaces.dag`.
        ops: of the vertices between input and output, in order.
        ids: for each vertex the ids of its projection, its sum and its op (of the input its node's, last; of
            the output projection, concatenation and sum); None for new ones. Those of nodes that are not
            written do not matter.
    """

    columns: Columns
    ops: tuple[str, ...]
    ids: tuple[Ids, ...]

    def of(self, vertices: Sequence[int]) -> Spec:
        """The cell of these vertices in this order, input and output among them; or nothing of nothing."""
        return Spec(
            relisted(self.columns, vertices),
            tuple([self.ops[vertex - 1] for vertex in vertices[1:-1]]),
            tuple([self.ids[vertex] for vertex in vertices]),
        )

    def pruned(self) -> Spec:
        """What is on a path from the input to the output; nothing where there is none."""
        kept = pruned(self.columns)
        return self if len(kept) == len(self.columns) else self.of(kept)

    def padded(self, vertices: int, op: str) -> Spec:
        """With as many vertices; the new ones stand before the output, and nothing joins them."""
        missing = vertices - len(self.columns)
        return Spec(
            (*self.columns[:-1], *[0] * missing, self.columns[-1]),
            (*self.ops, *[op] * missing),
            (*self.ids[:-1], *[NEW] * missing, self.ids[-1]),
        )


def vertex_channels(columns: Columns, width: int) -> list[int]:
    """Channels of each vertex of a pruned cell that puts out `width` (`compute_vertex_channels`).

    The vertices that lead to the output share its channels, the first ones get the remainder; any other
    vertex has as many as the widest that reads it. Those of the input are not the cell's to say: 0.
    """
    last = len(columns) - 1
    channels = [0] * last + [width]
    leading = [vertex for vertex in range(1, last) if columns[last] >> vertex & 1]
    for place, vertex in enumerate(leading):
        channels[vertex] = width // len(leading) + (place < width % len(leading))
    for vertex in range(last - 1, 0, -1):
        if not columns[last] >> vertex & 1:
            channels[vertex] = max(
                [channels[target] for target in range(vertex + 1, last) if columns[target] >> vertex & 1]
            )
    return channels


# --- the graph ---------------------------------------------------------------------------------------


def nodes(spec: Spec, fresh: Iterator[int]) -> Iterator[Node]:
    """The graph of a cell: of each vertex projection, sum, op; of the output concatenation, projection, sum.

    Sums and concatenations of one are left out. Nodes without an id take one of `fresh`.
    """

    def known(node_id: int | None) -> int:
        return next(fresh) if node_id is None else node_id

    ends = [known(spec.ids[0][2])]
    yield Node(ends[0], INPUT)
    last = len(spec.columns) - 1
    for vertex in range(1, last + 1):
        column = spec.columns[vertex]
        projection, join, end = spec.ids[vertex]
        feeds = [ends[source] for source in range(1, vertex) if column >> source & 1]
        if vertex == last and len(feeds) > 1:
            whole = known(join)
            yield Node(whole, CONCAT, tuple(feeds))
            feeds = [whole]
        if column & 1:
            feeds.append(known(projection))
            yield Node(feeds[-1], PROJECTION, (ends[0],))
        if len(feeds) > 1:
            total = known(end if vertex == last else join)
            yield Node(total, ADD, tuple(feeds))
            feeds = [total]
        if vertex < last:
            ends.append(known(end))
            yield Node(ends[-1], spec.ops[vertex - 1], tuple(feeds))


def read(graph: Graph, ops: Sequence[str]) -> Spec:
    """The cell of which `nodes` gives `graph`.

    Raises:
        InvalidArchitecture: there is none, or a vertex is on no path; the node is named.
    """
    first = graph.nodes[0]
    ends = {first.id: 1}  # the vertices that a node's readers read, as bits
    columns, names = [0], []
    ids: list[Ids] = [(None, None, first.id)]
    parts: dict[str, int] = {}  # the joining nodes of the vertex that comes next
    for node in graph.nodes[1:]:
        if node.op not in ops and node.op not in JOINING:
            raise InvalidArchitecture(
                f"node {node.id}: op must be one of {sorted((*ops, *JOINING))}, but got {node.op!r}"
            )
        if not node.inputs:
            raise InvalidArchitecture(f"node {node.id} ({node.op}): it must read another node")
        column = 0
        for source in node.inputs:
            column |= ends[source]
        if node.op in ops:
            ends[node.id] = 1 << len(columns)
            columns.append(column)
            names.append(node.op)
            ids.append((parts.get(PROJECTION), parts.get(ADD), node.id))
            parts = {}
        else:
            ends[node.id] = column
            parts[node.op] = node.id
    columns.append(ends[graph.output.id])
    ids.append((parts.get(PROJECTION), parts.get(CONCAT), parts.get(ADD)))
    spec = Spec(tuple(columns), tuple(names), tuple(ids))
    _check_same(graph, tuple(nodes(spec, count(-1, -1))))
    for vertex in sorted({*range(len(columns))}.difference(pruned(spec.columns))):
        raise InvalidArchitecture(
            f"node {ids[vertex][2]} ({names[vertex - 1]}): it must be read on the way to the output"
        )
    return spec


def _check_same(graph: Graph, wanted: Sequence[Node]) -> None:
    for node, right in zip(graph.nodes, wanted, strict=False):
        if node != right:
            raise InvalidArchitecture(
                f"node {node.id} ({node.op}): a cell has {right.op!r} here, with inputs {right.inputs} and "
                f"parameters {dict(right.params)}, but got {node.inputs} and {dict(node.params)}"
            )
    if len(graph) != len(wanted):
        node = graph.nodes[min(len(wanted), len(graph) - 1)]
        raise InvalidArchitecture(
            f"node {node.id} ({node.op}): a cell of these edges has {len(wanted)} nodes, but got {len(graph)}"
        )


# --- one change --------------------------------------------------------------------------------------

Move = Callable[[], Spec]
"""Gives the changed cell; it may hold vertices on no path, and too many edges."""


def flip_edge(spec: Spec, vertices: int, ops: Sequence[str]) -> list[Move]:
    """An edge is added or removed."""
    return [
        partial(_flipped, spec, source, target)
        for target in range(len(spec.columns))
        for source in range(target)
    ]


def change_op(spec: Spec, vertices: int, ops: Sequence[str]) -> list[Move]:
    """A vertex takes another op."""
    return [
        partial(_with_op, spec, place, op) for place, old in enumerate(spec.ops) for op in ops if op != old
    ]


def add_vertex(spec: Spec, vertices: int, ops: Sequence[str]) -> list[Move]:
    """A new vertex anywhere in the order reads one before it and is read by one behind it.

    It takes the place of the edge between these two, if there is one. No cell gets more than `vertices`.
    """
    size = len(spec.columns)
    return [
        partial(_with_vertex, spec, place, source, target, op)
        for place in range(1, size if size < vertices else 1)
        for source in range(place)
        for target in range(place, size)
        for op in ops
    ]


def remove_vertex(spec: Spec, vertices: int, ops: Sequence[str]) -> list[Move]:
    """What a vertex reads leads to what reads it, and the vertex goes."""
    return [partial(_without_vertex, spec, vertex) for vertex in range(1, len(spec.columns) - 1)]


CHANGES = (flip_edge, change_op, add_vertex, remove_vertex)
"""The kinds of change: (cell, most vertices, ops) -> moves."""


def _flipped(spec: Spec, source: int, target: int) -> Spec:
    columns = list(spec.columns)
    columns[target] ^= 1 << source
    return Spec(tuple(columns), spec.ops, spec.ids)


def _with_op(spec: Spec, place: int, op: str) -> Spec:
    return Spec(spec.columns, (*spec.ops[:place], op, *spec.ops[place + 1 :]), spec.ids)


def _with_vertex(spec: Spec, place: int, source: int, target: int, op: str) -> Spec:
    before = (1 << place) - 1
    columns = [column & before | (column & ~before) << 1 for column in spec.columns]
    columns[target] = columns[target] & ~(1 << source) | 1 << place
    columns.insert(place, 1 << source)
    ops = (*spec.ops[: place - 1], op, *spec.ops[place - 1 :])
    return Spec(tuple(columns), ops, (*spec.ids[:place], NEW, *spec.ids[place:]))


def _without_vertex(spec: Spec, vertex: int) -> Spec:
    own = spec.columns[vertex]
    columns = tuple([column | own if column >> vertex & 1 else column for column in spec.columns])
    kept = [other for other in range(len(columns)) if other != vertex]
    return Spec(columns, spec.ops, spec.ids).of(kept)
