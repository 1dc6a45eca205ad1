"""The genotype: frozen, self-checking data. Everything else is a function of it.

An `Architecture` is a few named graphs of `Node`s plus scalars. A node names only
earlier nodes, so a cycle cannot be written down, and its inputs are ordered, so a
concatenation survives a round trip through JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from nas.labelling import certificate

if TYPE_CHECKING:
    import networkx as nx

Scalar = bool | int | float | str
Params = tuple[tuple[str, Scalar], ...]


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
    if a is b or a != b:
        return a is b
    for (_, mine), (_, other) in zip(a, b, strict=True):
        if type(mine) is not type(other) or (type(mine) is float and repr(mine) != repr(other)):
            return False  # 0.0 and -0.0 are two as well
    return True


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
    _hash: int = field(default=0, init=False, repr=False, compare=False)
    _label: str = field(default="", init=False, repr=False, compare=False)

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
        if not self._hash:
            object.__setattr__(self, "_hash", hash((self.id, self.op, self.inputs, self.params)))
        return self._hash

    def __reduce__(self) -> tuple[type[Node], tuple[Any, ...]]:
        return Node, (self.id, self.op, self.inputs, self.params)  # a hash is of one process only

    @property
    def label(self) -> str:
        """Op and parameters, equal for equal ones only."""
        if not self._label:
            object.__setattr__(self, "_label", repr((self.op, self.params)))
        return self._label

    def __getitem__(self, name: str) -> Scalar:
        """The value of one parameter.

        Raises:
            InvalidArchitecture: the node has no such parameter.
        """
        for key, value in self.params:
            if key == name:
                return value
        raise InvalidArchitecture(f"node {self.id} ({self.op}): parameter {name!r} is missing")


@lru_cache(4096)
def _renamed(node: Node, node_id: int, inputs: tuple[int, ...]) -> Node:
    """A node with other ids; kept, since graphs of one family share most of theirs."""
    return Node(node_id, node.op, inputs, node.params)


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order; the last one is the output.

    Raises:
        InvalidArchitecture: it is empty, an id is used twice, or a node names one that is not earlier.
    """

    nodes: tuple[Node, ...]
    _certificate: str = field(default="", init=False, repr=False, compare=False)
    _hash: int = field(default=0, init=False, repr=False, compare=False)

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

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self.nodes == other.nodes if isinstance(other, Graph) else NotImplemented

    def __hash__(self) -> int:
        if not self._hash:
            object.__setattr__(self, "_hash", hash(self.nodes))
        return self._hash

    def __reduce__(self) -> tuple[type[Graph], tuple[Any, ...]]:
        return Graph, (self.nodes,)  # a hash is of one process only

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

    def renamed(self, ids: Mapping[int, int]) -> Graph:
        """The same graph where each id is `ids[id]`, all different; its certificate is the same."""
        graph = Graph(tuple([_renamed(n, ids[n.id], tuple([ids[i] for i in n.inputs])) for n in self.nodes]))
        object.__setattr__(graph, "_certificate", self._certificate)
        return graph

    @property
    def certificate(self) -> str:
        """Equal exactly for graphs that differ in ids and listing order only."""
        if not self._certificate:
            object.__setattr__(self, "_certificate", repr(certificate(self)))
        return self._certificate

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
            graphs = ", ".join(
                f"({name!r}, {graph.certificate})" for name, graph in sorted(self.graphs, key=_name)
            )
            text = f"({self.space!r}, {self.params!r}, [{graphs}])"
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
        except (ValueError, RecursionError) as error:
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


_name = itemgetter(0)


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
