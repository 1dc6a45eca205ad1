"""Graphs of genes, written and read: from values to nodes and back, and from parents to children."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING

from nas.architecture import Graph, InvalidArchitecture, Node, Scalar
from search_spaces.graph_space import REMEMBERED

if TYPE_CHECKING:
    from search_spaces.genes import GeneSpace, Values

Reading = tuple[tuple[Scalar, ...], Mapping[int, int] | None]
"""Values of a graph, and its id of each natural id; None where they are the same."""

READINGS = 8192
"""Graphs whose values are kept at hand; then they are read anew."""


class Scribe:
    """Writes the graphs of a space and reads them; what was written is not read again.

    Attributes:
        written: readings that are kept at hand.
    """

    def __init__(self, space: GeneSpace) -> None:
        self._space = space
        self.graph = lru_cache(REMEMBERED)(self._graph)
        self._one = lru_cache(REMEMBERED)(_itself)
        self.written: dict[tuple[str, Graph], Reading] = {}

    def _graph(self, name: str, values: Values) -> Graph:
        """The graph of these values, in its natural ids."""
        graph = Graph(tuple([self._one(node) for node in self._space.write(name, values)]))
        self._note(name, graph, (values, None))
        return graph

    def _renamed(self, name: str, values: Values, ids: Mapping[int, int]) -> Graph:
        """The graph of these values where each natural id is `ids[id]`."""
        natural = self.graph(name, values)
        if all(old == new for old, new in ids.items()):
            return natural
        graph = natural.renamed(ids)
        self._note(name, graph, (values, ids))
        return graph

    def reading(self, name: str, graph: Graph) -> Reading:
        """What a graph was written from; raises `InvalidArchitecture` if it is from no values."""
        reading = self.written.get((name, graph))
        if reading is None:
            reading = self._read(name, graph)
            self._note(name, graph, reading)
        return reading

    def _note(self, name: str, graph: Graph, reading: Reading) -> None:
        if len(self.written) >= READINGS:
            self.written.clear()
        self.written[name, graph] = reading

    def changed(self, name: str, parent: Graph, values: Values) -> Graph:
        """`parent` with these values; ids stay, and new nodes take new ones."""
        old, ids = self.reading(name, parent)
        if values == old:
            return parent
        graph = self.graph(name, values)
        if ids is None:
            return graph
        fresh = _unused(parent)
        return self._renamed(name, values, {n.id: ids[n.id] if n.id in ids else next(fresh) for n in graph})

    def crossed(self, name: str, a: Graph, b: Graph, values: Values) -> Graph:
        """`a` with these values, some of which are `b`'s; nodes that `a` does not write alike get new ids."""
        old, ids = self.reading(name, a)
        if values == old:
            return a
        fresh = _unused(a, b)
        written = {node.id: node for node in self.graph(name, old)}
        renamed = {}
        for node in self.graph(name, values):
            mine = written.get(node.id)
            if mine is not None and mine.label == node.label:
                renamed[node.id] = ids[node.id] if ids else node.id
            else:
                renamed[node.id] = next(fresh)
        return self._renamed(name, values, renamed)

    def _read(self, name: str, graph: Graph) -> Reading:
        """The values of a graph, and its id of each natural id; None where they are the same."""
        space, seen = self._space, _Seen(graph.nodes)
        values: list[Scalar] = []
        genes = space.genes[name]
        try:
            for value in space.read(name, seen):
                genes[len(values)].index(value)
                values.append(value)
            if len(values) < len(genes):
                raise InvalidArchitecture(
                    f"graph {name!r} must hold {len(genes)} choices, but it ends after {len(values)}"
                )
            normal = space.normal(name, tuple(values))
            natural = self.graph(name, normal)
        except InvalidArchitecture as error:
            raise InvalidArchitecture(f"{seen.last}: {error}") from error
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            raise InvalidArchitecture(
                f"{seen.last}: its op, inputs and parameters are not what space {space.name!r} writes here "
                f"({error!r})"
            ) from error
        if natural == graph:
            return normal, None
        ids = {a.id: b.id for a, b in zip(natural, graph, strict=False)}
        for node, written in zip(natural, graph, strict=False):
            wanted = Node(ids[node.id], node.op, tuple([ids[source] for source in node.inputs]), node.params)
            if wanted != written:
                raise InvalidArchitecture(
                    f"node {written.id} ({written.op}): space {space.name!r} writes {wanted.op!r} here, with "
                    f"inputs {wanted.inputs} and parameters {dict(wanted.params)}, but got "
                    f"{written.inputs} and {dict(written.params)}"
                )
        if len(natural) != len(graph):
            last = graph.nodes[min(len(natural), len(graph) - 1)]
            raise InvalidArchitecture(
                f"node {last.id} ({last.op}): graph {name!r} must have {len(natural)} nodes with these "
                f"choices, but got {len(graph)}"
            )
        return normal, ids


def _unused(*graphs: Graph) -> Iterator[int]:
    """Ids that no node has."""
    used = {node.id for graph in graphs for node in graph}
    return (i for i in count() if i not in used)


def _itself(node: Node) -> Node:
    """Remembered, so that graphs share equal nodes, whose hashes are known and which are compared at once."""
    return node


class _Seen(Sequence[Node]):
    """Nodes, and which of them was looked at last, in slices too."""

    def __init__(self, nodes: tuple[Node, ...], looked_at: list[Node] | None = None) -> None:
        self._nodes = nodes
        self._looked_at = looked_at if looked_at is not None else [nodes[0]]

    @property
    def last(self) -> str:
        (node,) = self._looked_at
        return f"node {node.id} ({node.op})"

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, place):  # type: ignore[no-untyped-def]
        found = self._nodes[place]
        if not isinstance(found, Node):
            return _Seen(found, self._looked_at)
        self._looked_at[0] = found
        return found
