"""The genotype: frozen, self-checking data. Everything else is a function of it.

An `Architecture` is a few named graphs of `Node`s plus scalars. A node names only
earlier nodes, so a cycle cannot be written down, and its inputs are ordered, so a
concatenation survives a round trip through JSON.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

Scalar = bool | int | float | str
Params = tuple[tuple[str, Scalar], ...]

COMMUTATIVE = "add"
"""The one op whose inputs have no order. Every other op reads its inputs in order."""


class InvalidArchitecture(ValueError):
    """An architecture breaks a rule; the message names the node and the rule."""


def _checked_params(params: Params, owner: str) -> Params:
    """`params` sorted by name; raises `InvalidArchitecture` for what JSON cannot hold."""
    previous: str | None = None
    in_order = True
    for name, value in params:
        if type(name) is not str:
            raise InvalidArchitecture(f"{owner}: parameter names must be texts, but got {name!r}")
        if type(value) is float and not math.isfinite(value):
            raise InvalidArchitecture(f"{owner}: parameter {name!r} must be finite, but got {value}")
        if type(value) not in (bool, int, float, str):  # nor a subclass: NumPy's scalars read differently
            raise InvalidArchitecture(
                f"{owner}: parameter {name!r} must be a bool, int, float or str, but got {value!r}"
            )
        if previous is not None and name <= previous:
            in_order = False
        previous = name
    if in_order:
        return params
    ordered = tuple(sorted(params, key=itemgetter(0)))
    names = [name for name, _ in ordered]
    if len(set(names)) != len(names):
        raise InvalidArchitecture(f"{owner}: parameter names must differ, but got {names}")
    return ordered


def _same_params(a: Params, b: Params) -> bool:
    """Equal in value and type: 1, 1.0 and True are three parameters."""
    return a is b or (a == b and repr(a) == repr(b))


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a graph.

    Attributes:
        id: unique in its graph and kept by mutation; a new node takes an id no parent uses.
        op: key into the space's table of operations.
        inputs: ids of earlier nodes, in order (without meaning for the op named "add" only).
        params: pairs (name, value), sorted by name.
    """

    id: int
    op: str
    inputs: tuple[int, ...] = ()
    params: Params = ()

    def __post_init__(self) -> None:
        if self.params:
            checked = _checked_params(self.params, f"node {self.id} ({self.op})")
            if checked is not self.params:
                object.__setattr__(self, "params", checked)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Node):
            return NotImplemented
        return (self.id, self.op, self.inputs) == (other.id, other.op, other.inputs) and _same_params(
            self.params, other.params
        )

    def __hash__(self) -> int:
        return hash((self.id, self.op, self.inputs, self.params))

    def __getitem__(self, name: str) -> Scalar:
        """The value of one parameter.

        Raises:
            InvalidArchitecture: the node has no such parameter.
        """
        for key, value in self.params:
            if key == name:
                return value
        raise InvalidArchitecture(f"node {self.id} ({self.op}): parameter {name!r} is missing")

    def with_params(self, **changed: Scalar) -> Node:
        """The same node, same id and inputs, with some parameters set."""
        merged = dict(self.params) | changed
        return Node(self.id, self.op, self.inputs, tuple(sorted(merged.items())))


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order; the last one is the output.

    Raises:
        InvalidArchitecture: it is empty, an id is used twice, or a node names one that is not earlier.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise InvalidArchitecture("a graph must have at least one node, but got none")
        earlier: set[int] = set()
        for node in self.nodes:
            for source in node.inputs:
                if source not in earlier:
                    rule = (
                        "inputs must name earlier nodes (a cycle cannot be written down)"
                        if any(source == other.id for other in self.nodes)
                        else "inputs must name nodes of the graph"
                    )
                    raise InvalidArchitecture(f"node {node.id} ({node.op}): {rule}, but got input {source}")
            if node.id in earlier:
                raise InvalidArchitecture(f"node {node.id} ({node.op}): ids must be unique in a graph")
            earlier.add(node.id)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def output(self) -> Node:
        return self.nodes[-1]

    def node(self, node_id: int) -> Node:
        """The node with this id; raises `InvalidArchitecture` if there is none."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise InvalidArchitecture(f"the graph has no node {node_id}")

    def to_networkx(self) -> nx.MultiDiGraph:
        """Nodes carry `op`, `params`, `output`; edge keys and `position` give the order of inputs."""
        import networkx as nx

        view = nx.MultiDiGraph()
        for node in self.nodes:
            view.add_node(node.id, op=node.op, params=dict(node.params), output=node is self.nodes[-1])
            for position, source in enumerate(node.inputs):
                view.add_edge(source, node.id, key=position, position=position)
        return view


@dataclass(frozen=True, slots=True)
class Architecture:
    """A point of a search space, as written down.

    Attributes:
        space: name of the space that can read it.
        graphs: pairs (name, graph): ("net",) for a chain, ("normal", "reduction") for cells …
        params: scalars that belong to no node (width, depth, resolution …), sorted by name.

    Example:
        >>> net = Graph((Node(0, "input"), Node(1, "conv", (0,), (("kernel", 3),))))
        >>> arch = Architecture("toy", (("net", net),))
        >>> Architecture.from_json(arch.to_json()) == arch
        True
    """

    space: str
    graphs: tuple[tuple[str, Graph], ...]
    params: Params = ()
    _key: str = field(default="", init=False, repr=False, compare=False)
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", _checked_params(self.params, f"architecture of {self.space!r}"))
        names = [name for name, _ in self.graphs]
        if not names or len(set(names)) != len(names):
            raise InvalidArchitecture(f"graph names must be given and differ, but got {names}")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Architecture):
            return NotImplemented
        return (self.space, self.graphs) == (other.space, other.graphs) and _same_params(
            self.params, other.params
        )

    def __hash__(self) -> int:
        if not self._hash:
            object.__setattr__(self, "_hash", hash((self.space, self.graphs, self.params)))
        return self._hash

    def __reduce__(self) -> tuple[type[Architecture], tuple[Any, ...]]:
        return Architecture, (self.space, self.graphs, self.params)  # a hash is of one process only

    def graph(self, name: str = "net") -> Graph:
        """The graph of that name; raises `InvalidArchitecture` if there is none."""
        for other, graph in self.graphs:
            if other == name:
                return graph
        raise InvalidArchitecture(
            f"the architecture has no graph {name!r}, only {[other for other, _ in self.graphs]}"
        )

    def param(self, name: str) -> Scalar:
        """The value of one scalar; raises `InvalidArchitecture` if it is missing."""
        for other, value in self.params:
            if other == name:
                return value
        raise InvalidArchitecture(f"architecture of {self.space!r}: parameter {name!r} is missing")

    @property
    def key(self) -> str:
        """32 hex digits, equal exactly for architectures that differ in ids and listing order only."""
        if not self._key:
            text = repr(
                (
                    self.space,
                    self.params,
                    sorted((name, certificate(graph)) for name, graph in self.graphs),
                )
            )
            object.__setattr__(self, "_key", blake2b(text.encode(), digest_size=16).hexdigest())
        return self._key

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives back an equal architecture."""
        return json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """What `to_json` writes, as plain dicts, lists and scalars."""
        return {
            "space": self.space,
            "graphs": [
                {
                    "name": name,
                    "nodes": [
                        {"id": n.id, "op": n.op, "inputs": list(n.inputs), "params": dict(n.params)}
                        for n in graph
                    ],
                }
                for name, graph in self.graphs
            ],
            "params": dict(self.params),
        }

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Reads what `to_json` wrote.

        Raises:
            InvalidArchitecture: the text is not JSON, or a field is missing or of a wrong type.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidArchitecture(f"an architecture must be JSON, but {error}") from error
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Any) -> Architecture:
        """Reads what `to_dict` gave; raises `InvalidArchitecture` as `from_json` does."""
        fields = _fields(data, "architecture", {"space": str, "graphs": list, "params": dict})
        graphs = []
        for entry in fields["graphs"]:
            graph = _fields(entry, "graph", {"name": str, "nodes": list})
            graphs.append((graph["name"], Graph(tuple(_node(node) for node in graph["nodes"]))))
        return cls(fields["space"], tuple(graphs), tuple(fields["params"].items()))

    def to_networkx(self) -> nx.MultiDiGraph:
        """All graphs side by side; nodes are named (graph, id), the graph carries `space` and `params`."""
        import networkx as nx

        whole = nx.MultiDiGraph(space=self.space, params=dict(self.params))
        for name, graph in self.graphs:
            view = graph.to_networkx()
            whole.update(nx.relabel_nodes(view, {node: (name, node) for node in view}))
        return whole


def _fields(data: Any, what: str, wanted: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(data, dict) or set(data) != set(wanted):
        got = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise InvalidArchitecture(f"a {what} must have the fields {sorted(wanted)}, but got {got}")
    for name, kind in wanted.items():
        if type(data[name]) is not kind:
            raise InvalidArchitecture(f"{what}: {name!r} must be a {kind.__name__}, but got {data[name]!r}")
    return data


def _node(data: Any) -> Node:
    fields = _fields(data, "node", {"id": int, "op": str, "inputs": list, "params": dict})
    for source in fields["inputs"]:
        if type(source) is not int:
            raise InvalidArchitecture(f"node {fields['id']}: inputs must be node ids, but got {source!r}")
    return Node(fields["id"], fields["op"], tuple(fields["inputs"]), tuple(fields["params"].items()))


# --- canonical labelling -----------------------------------------------------------------------
#
# A certificate is the list of nodes in a canonical order. The order comes from colours: first the
# expression below each node; where two nodes share an expression (two separate convolutions of one
# input, say), colours are refined by who reads them, twins are told apart in any order, and what is still
# tied is broken by trying each tied node and keeping the smallest certificate (individualisation and
# refinement, McKay 1981).

Certificate = tuple[tuple[str, tuple[int, ...]], ...]


def _label(op: str, params: Params) -> str:
    return repr((op, params))


def certificate(graph: Graph) -> Certificate:
    """The graph in canonical order: pairs (label, input positions). Equal exactly for isomorphic graphs.

    Isomorphic means: a bijection of nodes that keeps ops, params, the output and the order of the
    inputs (for "add": their multiset). Dead nodes count; two equal nodes are not one shared node.
    """
    labels = [_label(node.op, node.params) for node in graph.nodes]
    if all(node.inputs == (before.id,) for before, node in pairwise(graph.nodes)):
        return (("chain", ()), *((label, ()) for label in labels))  # no order but its own
    tables = _Tables.of(graph, labels)
    expressions: list[bytes] = []
    for label, inputs, commutative in zip(tables.labels, tables.inputs, tables.commutative, strict=True):
        below = [expressions[source] for source in inputs]
        if commutative:
            below.sort()
        text = label.encode() + b"|" + b"".join(below)
        expressions.append(blake2b(text, digest_size=12).digest())
    last = len(expressions) - 1
    colours = _ranked([(expression, index == last) for index, expression in enumerate(expressions)])
    if len(set(colours)) < len(colours):
        return _smallest(tables, tables.twins_apart(_refined(tables, colours)))
    return tables.certificate(colours)


@dataclass(frozen=True, slots=True)
class _Tables:
    """A graph by position instead of id."""

    labels: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]
    commutative: tuple[bool, ...]
    readers: tuple[tuple[tuple[int, int], ...], ...]  # (reader, position of the input or 0 for add)

    @classmethod
    def of(cls, graph: Graph, labels: Sequence[str]) -> _Tables:
        index = {node.id: position for position, node in enumerate(graph.nodes)}
        readers: list[list[tuple[int, int]]] = [[] for _ in graph.nodes]
        for position, node in enumerate(graph.nodes):
            for slot, source in enumerate(node.inputs):
                readers[index[source]].append((position, 0 if node.op == COMMUTATIVE else slot))
        return cls(
            tuple(labels),
            tuple(tuple(index[source] for source in node.inputs) for node in graph.nodes),
            tuple(node.op == COMMUTATIVE for node in graph.nodes),
            tuple(tuple(found) for found in readers),
        )

    def twins_apart(self, colours: list[int]) -> list[int]:
        """`colours`, refined after nodes of equal colour, inputs and readers got colours of their own.

        Swapping two such twins changes nothing, so every order of them gives the same certificate.
        """
        seen: Counter[Any] = Counter()
        signatures = []
        for position, colour in enumerate(colours):
            below = self.inputs[position]
            twins = (
                colour,
                tuple(sorted(below)) if self.commutative[position] else below,
                self.readers[position],
            )
            signatures.append((colour, seen[twins]))
            seen[twins] += 1
        return _refined(self, _ranked(signatures)) if len(seen) < len(colours) else colours

    def certificate(self, colours: list[int]) -> Certificate:
        """The nodes in the order of their colours, which must all differ."""
        rows: list[tuple[str, tuple[int, ...]]] = [("", ())] * len(colours)
        for position, colour in enumerate(colours):
            below = [colours[source] for source in self.inputs[position]]
            if self.commutative[position]:
                below.sort()
            rows[colour] = (self.labels[position], tuple(below))
        return (*rows, ("output", (colours[-1],)))


def _ranked(signatures: list[Any]) -> list[int]:
    """Each signature's place among the sorted distinct ones, counted so that ties share a place."""
    order = {signature: rank for rank, signature in enumerate(sorted(set(signatures)))}
    return [order[signature] for signature in signatures]


def _refined(tables: _Tables, colours: list[int]) -> list[int]:
    """The coarsest stable colouring below `colours`; at most one round a node."""
    for _ in colours:
        signatures = []
        for position, colour in enumerate(colours):
            below = [colours[source] for source in tables.inputs[position]]
            if tables.commutative[position]:
                below.sort()
            above = sorted((colours[reader], slot) for reader, slot in tables.readers[position])
            signatures.append((colour, tuple(below), tuple(above)))
        finer = _ranked(signatures)
        if len(set(finer)) == len(set(colours)):
            return finer
        colours = finer
    return colours


def _tied(colours: list[int]) -> list[int]:
    """Positions that share the first colour that is not alone; empty when all differ."""
    for colour in range(len(colours)):
        cell = [position for position, other in enumerate(colours) if other == colour]
        if len(cell) > 1:
            return cell
    return []


def _apart(tables: _Tables, colours: list[int], position: int) -> list[int]:
    """`colours` refined after `position` was given a colour of its own."""
    return _refined(tables, _ranked([(c, i != position) for i, c in enumerate(colours)]))


def _smallest(tables: _Tables, colours: list[int]) -> Certificate:
    """The smallest certificate over all ways to break the ties of a stable colouring.

    A tied node whose first full descent gives a certificate already seen at this level is the image
    of an earlier one under an automorphism, so its subtree holds nothing new and is not walked.
    """
    cell = _tied(colours)
    if not cell:
        return tables.certificate(colours)
    best: Certificate | None = None
    descents: set[Certificate] = set()
    for position in cell:
        chosen = _apart(tables, colours, position)
        descent = chosen
        while tied := _tied(descent):
            descent = _apart(tables, descent, tied[0])
        leaf = tables.certificate(descent)
        if leaf in descents:
            continue
        descents.add(leaf)
        found = _smallest(tables, chosen)
        best = found if best is None or found < best else best
    if best is None:  # pragma: no cover - a tied cell has at least two members
        raise InvalidArchitecture("canonical labelling met an empty cell")
    return best
