# ruff: noqa: E501
"""Genotypes: exact JSON, the canonical key against networkx isomorphism, and every rule that can be broken."""

from __future__ import annotations

import json
import random
from itertools import combinations, combinations_with_replacement, product
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import MultiDiGraphMatcher

import nas.labelling as module
from nas.architecture import Architecture, Graph, InvalidArchitecture, Node, Scalar
from nas.labelling import certificate

SCALARS: st.SearchStrategy[Scalar] = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
)
PARAMS = st.dictionaries(st.text("abc", min_size=1, max_size=2), SCALARS, max_size=2).map(
    lambda named: tuple(named.items())
)


@st.composite
def graphs(draw: st.DrawFn, largest: int = 7, ops: str = "conv pool", params: Any = None) -> Graph:
    """Any labelled DAG: ordered, repeated and missing inputs, equal nodes, dead nodes, several sources."""
    count = draw(st.integers(1, largest))
    ids = draw(st.lists(st.integers(-5, 40), min_size=count, max_size=count, unique=True))
    nodes: list[Node] = []
    for place, node_id in enumerate(ids):
        sources = draw(st.lists(st.sampled_from(ids[:place]), max_size=3)) if place else []
        op = draw(st.sampled_from([*ops.split(), "add", "concat"])) if sources else "input"
        nodes.append(Node(node_id, op, tuple(sources), draw(params) if params is not None else ()))
    return Graph(tuple(nodes))


ARCHITECTURES = st.builds(
    lambda space, named, params: Architecture(space, tuple(named.items()), params),
    st.text("xyz", max_size=3),
    st.dictionaries(st.text("gh", max_size=2), graphs(params=PARAMS), min_size=1, max_size=2),
    PARAMS,
)


def arch_of(graph: Graph) -> Architecture:
    return Architecture("toy", (("net", graph),))


def key(*nodes: Node) -> str:
    return arch_of(Graph(nodes)).key


def relabelled(graph: Graph, rng: random.Random) -> Graph:
    """Other ids, another topological order with the same output last, inputs of adds shuffled."""
    fresh = rng.sample(range(1000), len(graph))
    names = {node.id: name for node, name in zip(graph, fresh, strict=True)}
    waiting, listed = list(graph.nodes), []
    done: set[int] = set()
    while waiting:
        ready = [n for n in waiting if done >= set(n.inputs) and (n is not graph.output or len(waiting) == 1)]
        node = rng.choice(ready)
        waiting.remove(node)
        done.add(node.id)
        inputs = [names[source] for source in node.inputs]
        if node.op == "add":
            rng.shuffle(inputs)
        listed.append(Node(names[node.id], node.op, tuple(inputs), node.params))
    return Graph(tuple(listed))


def isomorphic(a: Graph, b: Graph) -> bool:
    """By networkx: nodes agree in op, params and output; edges in position, except into an add."""

    def view(graph: Graph) -> nx.MultiDiGraph:
        found = graph.to_networkx()
        for _, reader, data in found.edges(data=True):
            if found.nodes[reader]["op"] == "add":
                data["position"] = 0
        for _, data in found.nodes(data=True):
            data["params"] = repr(sorted(data["params"].items()))
        return found

    def same_node(x: dict[str, Any], y: dict[str, Any]) -> bool:
        return x == y

    def same_edges(x: dict[int, Any], y: dict[int, Any]) -> bool:
        return sorted(e["position"] for e in x.values()) == sorted(e["position"] for e in y.values())

    return bool(MultiDiGraphMatcher(view(a), view(b), same_node, same_edges).is_isomorphic())


# --- JSON and equality -----------------------------------------------------------------------------


@given(ARCHITECTURES)
def test_json_gives_back_an_equal_architecture(arch: Architecture) -> None:
    text = arch.to_json()
    again = Architecture.from_json(text)
    assert again == arch
    assert hash(again) == hash(arch)
    assert again.key == arch.key
    assert again.to_json() == text
    assert [[n.inputs for n in g] for _, g in again.graphs] == [[n.inputs for n in g] for _, g in arch.graphs]
    assert "\n" not in text
    assert repr(again.params) == repr(arch.params)


@pytest.mark.parametrize("values", [*list(combinations([1, 1.0, True, "1"], 2)), (0.0, -0.0), (0, False)])
def test_scalars_of_different_type_are_different(values: tuple[Scalar, Scalar]) -> None:
    """Also one after the other in either order: nothing is remembered by `==`, to which 1 is True."""
    for one, other in (values, values[::-1]):
        in_node = [arch_of(Graph((Node(0, "conv", (), (("k", value),)),))) for value in (one, other)]
        in_arch = [
            Architecture("toy", (("net", Graph((Node(0, "a"),))),), (("k", value),)) for value in (one, other)
        ]
        for a, b in (in_node, in_arch):
            assert a.key != b.key
            assert a != b
            assert len({a, b}) == 2
            assert Architecture.from_json(a.to_json()) == a != Architecture.from_json(b.to_json())


def test_params_are_sorted_by_name_whatever_their_types() -> None:
    node = Node(3, "conv", (), (("width", 8), ("act", "relu"), ("bias", True)))
    assert [name for name, _ in node.params] == ["act", "bias", "width"]
    assert node == Node(3, "conv", (), (("act", "relu"), ("bias", True), ("width", 8)))
    assert node["width"] == 8
    assert node != "conv"
    assert arch_of(Graph((node,))) != "conv"


def test_parts_by_name() -> None:
    graph = Graph((Node(4, "input"), Node(2, "conv", (4,))))
    arch = Architecture("toy", (("normal", graph), ("net", graph)), (("depth", 3),))
    assert arch.graph() is arch.graph("normal") is graph
    assert arch.param("depth") == 3
    assert graph.output is graph.node(2)
    assert len(graph) == 2


# --- the key ---------------------------------------------------------------------------------------


@given(graphs(largest=9, ops="conv"), st.randoms(use_true_random=False))
def test_key_is_blind_to_ids_and_listing_order(graph: Graph, rng: random.Random) -> None:
    other = relabelled(graph, rng)
    assert isomorphic(graph, other)
    assert certificate(other) == certificate(graph)
    assert arch_of(other).key == arch_of(graph).key


@given(graphs(largest=6, ops="conv", params=st.sampled_from([(), (("k", 3),)])), st.data())
def test_key_equality_is_isomorphism_on_random_pairs(graph: Graph, data: st.DataObject) -> None:
    """Against a graph one small edit away, which is isomorphic or nearly so."""
    nodes = list(relabelled(graph, data.draw(st.randoms(use_true_random=False))))
    place = data.draw(st.integers(0, len(nodes) - 1))
    node = nodes[place]
    earlier = [n.id for n in nodes[:place]]
    if node.inputs and data.draw(st.booleans()):
        inputs = list(node.inputs)
        inputs[data.draw(st.integers(0, len(inputs) - 1))] = data.draw(st.sampled_from(earlier))
        nodes[place] = Node(node.id, node.op, tuple(data.draw(st.permutations(inputs))), node.params)
    elif node.inputs:
        nodes[place] = Node(node.id, data.draw(st.sampled_from(["add", "conv"])), node.inputs, node.params)
    other = Graph(tuple(nodes))
    assert (certificate(graph) == certificate(other)) == isomorphic(graph, other)


def test_key_equality_is_isomorphism_on_all_small_graphs() -> None:
    """All graphs of an input and three nodes with up to two inputs: as many keys as networkx finds classes."""

    def choices(place: int) -> list[tuple[str, tuple[int, ...]]]:
        singles = [("conv", (source,)) for source in range(place)]
        sums = [("add", pair) for pair in combinations_with_replacement(range(place), 2)]
        concats = [("concat", pair) for pair in product(range(place), repeat=2)]
        return [*singles, *sums, *concats]

    classes: dict[str, list[Graph]] = {}
    total = 0
    for picks in product(*(choices(place) for place in range(1, 4))):
        graph = Graph((Node(0, "input"), *(Node(i + 1, op, ins) for i, (op, ins) in enumerate(picks))))
        classes.setdefault(arch_of(graph).key, []).append(graph)
        total += 1
    assert total == 3 * 9 * 18
    assert len(classes) < total
    firsts = [members[0] for members in classes.values()]
    for members in classes.values():
        assert all(isomorphic(members[0], other) for other in members[1:])

    def invariant(graph: Graph) -> str:  # equal for isomorphic graphs, so that few pairs are left to compare
        view = graph.to_networkx()
        return repr(sorted((n.op, n is graph.output, len(n.inputs), view.out_degree(n.id)) for n in graph))

    alike: dict[str, list[Graph]] = {}
    for graph in firsts:
        alike.setdefault(invariant(graph), []).append(graph)
    compared = 0
    for group in alike.values():
        for a, b in combinations(group, 2):
            compared += 1
            assert not isomorphic(a, b)
    assert compared > 20


def test_one_shared_convolution_is_not_two() -> None:
    one = key(Node(0, "input"), Node(1, "conv", (0,)), Node(2, "add", (1, 1)))
    two = key(Node(0, "input"), Node(1, "conv", (0,)), Node(2, "conv", (0,)), Node(3, "add", (1, 2)))
    assert one != two
    crossed = [
        key(
            Node(0, "input"),
            Node(1, "conv", (0,)),
            Node(2, "conv", (0,)),
            Node(3, "pool", (1,)),
            Node(4, "pool", (last,)),
            Node(5, "add", (3, 4)),
        )
        for last in (1, 2)
    ]
    assert crossed[0] != crossed[1]


@pytest.mark.parametrize(("op", "ordered"), [("add", False), ("concat", True), ("Add", True), ("sum", True)])
def test_only_add_has_no_order(op: str, ordered: bool) -> None:
    keys = {key(Node(0, "input"), Node(1, "conv", (0,)), Node(2, op, inputs)) for inputs in ((0, 1), (1, 0))}
    assert len(keys) == 1 + ordered


def test_the_key_sees_dead_nodes_the_output_names_and_scalars() -> None:
    base = (Node(0, "input"), Node(1, "conv", (0,)), Node(2, "conv", (1,)))
    graph = Graph(base)
    keys = {
        arch_of(graph).key,
        key(*base, Node(3, "conv", (1,))),
        key(base[0], base[1], Node(3, "pool", (1,)), base[2]),
        Architecture("other", (("net", graph),)).key,
        Architecture("toy", (("cell", graph),)).key,
        Architecture("toy", (("net", graph),), (("width", 8),)).key,
        Architecture("toy", (("net", graph), ("cell", graph))).key,
    }
    assert len(keys) == 7
    swapped = Architecture("toy", (("cell", graph), ("net", graph)))
    assert swapped.key == Architecture("toy", (("net", graph), ("cell", graph))).key
    assert all(len(k) == 32 and set(k) <= set("0123456789abcdef") for k in keys)


def test_golden_key() -> None:
    """A key is stored in files: it must stay what it is. Value of this code, 2026."""
    net = Graph((Node(0, "input"), Node(1, "conv", (0,), (("kernel", 3),)), Node(2, "add", (0, 1))))
    assert arch_of(net).key == GOLDEN


GOLDEN = "2d9c246368eca93102b76b7c9137fe32"


# --- symmetric graphs ------------------------------------------------------------------------------


def chains(k: int, length: int, join: str = "add") -> Graph:
    """`k` equal parallel chains of one input."""
    nodes, ends = [Node(0, "input")], []
    for _ in range(k):
        end = 0
        for _ in range(length):
            nodes.append(Node(len(nodes), "conv", (end,)))
            end = nodes[-1].id
        ends.append(end)
    return Graph((*nodes, Node(len(nodes), join, tuple(ends))))


def layers(k: int) -> Graph:
    """A k x k grid of adds, each of which sums the whole layer before."""
    nodes = [Node(0, "input")]
    before: list[int] = [0]
    for _ in range(k):
        layer = [Node(len(nodes) + i, "add", tuple(before)) for i in range(k)]
        nodes += layer
        before = [node.id for node in layer]
    return Graph((*nodes, Node(len(nodes), "add", tuple(before))))


def mesh(k: int) -> Graph:
    """A k x k grid in which each add sums its left and upper neighbour."""
    nodes = [Node(0, "input")]
    for row, column in product(range(k), repeat=2):
        sides = [0 if column == 0 else len(nodes) - 1, 0 if row == 0 else len(nodes) - k]
        nodes.append(Node(row * k + column + 1, "add", tuple(sides)))
    return Graph(tuple(nodes))


def refinements(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> int:
    count = 0
    refined = module._refined

    def counted(tables: Any, colours: list[int]) -> list[int]:
        nonlocal count
        count += 1
        return refined(tables, colours)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_refined", counted)
        certificate(graph)
    return count


@pytest.mark.parametrize(
    ("graph", "most"),
    [(chains(8, 1), 2), (chains(8, 4), 300), (chains(8, 4, "concat"), 2), (layers(8), 3), (mesh(8), 200)],
    ids=["twins", "chains", "concatenated chains", "layers", "mesh"],
)
def test_symmetric_graphs_take_few_refinements(
    graph: Graph, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8! = 40,320 orders of equal parts, 8!^8 of the layers: none of them may be walked one by one."""
    assert refinements(graph, monkeypatch) <= most
    other = relabelled(graph, random.Random(1))
    assert certificate(other) == certificate(graph)


def test_growth_with_equal_chains_is_polynomial(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [refinements(chains(k, 3), monkeypatch) for k in (4, 8, 16)]
    assert counts[2] <= 10 * counts[1] <= 100 * counts[0]


def test_symmetric_graphs_that_differ_are_told_apart() -> None:
    """Two 3-cycles against one 6-cycle of "who shares a reader": the same colours, not isomorphic."""

    def ring(pairs: list[tuple[int, int]]) -> Graph:
        convs = [Node(i + 1, "conv", (0,)) for i in range(6)]
        sums = [Node(7 + i, "add", (a + 1, b + 1)) for i, (a, b) in enumerate(pairs)]
        return Graph((Node(0, "input"), *convs, *sums, Node(13, "add", tuple(range(7, 13)))))

    six = ring([(i, (i + 1) % 6) for i in range(6)])
    three = ring([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)])
    assert certificate(six) != certificate(three)
    for graph in (six, three):
        for seed in range(5):
            assert certificate(relabelled(graph, random.Random(seed))) == certificate(graph)


@settings(max_examples=60)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.randoms(use_true_random=False))
def test_symmetric_graphs_keep_their_key(k: int, length: int, size: int, rng: random.Random) -> None:
    for graph in (chains(k, length), layers(size), mesh(size)):
        assert certificate(relabelled(graph, rng)) == certificate(graph)


# --- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Graph(()), "at least one node"),
        (lambda: Graph((Node(1, "a"), Node(1, "b"))), r"node 1 \(b\): ids must be unique"),
        (lambda: Graph((Node(1, "a", (2,)), Node(2, "b"))), r"node 1 \(a\): inputs must name earlier.*got input 2"),
        (lambda: Graph((Node(1, "a", (1,)),)), r"node 1 \(a\): inputs must name earlier nodes \(a cycle"),
        (lambda: Graph((Node(1, "a", (7,)),)), r"node 1 \(a\): inputs must name nodes of the graph, but got input 7"),
        (lambda: Graph((Node(1, "a"),)).node(3), "no node 3"),
        (lambda: Node(1, "a", (), (("k", float("nan")),)), r"node 1 \(a\): parameter 'k' must be finite"),
        (lambda: Node(1, "a", (), (("k", float("inf")),)), "'k' must be finite, but got inf"),
        (lambda: Node(1, "a", (), (("k", None),)), r"node 1 \(a\): parameter 'k' must be a bool, int"),  # type: ignore[arg-type]
        (lambda: Node(1, "a", (), (("k", np.float64(3)),)), "'k' must be a bool, int, float or str"),
        (lambda: Node(1, "a", (), ((3, 3),)), "names must be texts, but got 3"),  # type: ignore[arg-type]
        (lambda: Node(1, "a", (), (("k", 1), ("k", "x"))), r"node 1 \(a\): parameter names must differ"),
        (lambda: Node(1, "a")["k"], r"node 1 \(a\): parameter 'k' is missing"),
        (lambda: Architecture("s", ()), r"graph names must be given and differ, but got \[\]"),
        (lambda: Architecture("s", (("g", Graph((Node(1, "a"),))),) * 2), "graph names must be given and differ"),
        (lambda: Architecture("s", (("g", Graph((Node(1, "a"),))),), (("d", float("nan")),)), "of 's': param.*'d'"),
        (lambda: arch_of(Graph((Node(1, "a"),))).graph("cell"), r"no graph 'cell', only \['net'\]"),
        (lambda: arch_of(Graph((Node(1, "a"),))).param("d"), "of 'toy': parameter 'd' is missing"),
    ],
)  # fmt: skip
def test_a_broken_rule_names_the_node_and_the_rule(make: Any, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        make()


NODE = {"id": 1, "op": "a", "inputs": [], "params": {}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "must be JSON, but"),
        ([], "an? architecture must have the fields .* but got list"),
        ({"space": "s"}, r"must have the fields \['graphs', 'params', 'space'\], but got \['space'\]"),
        ({"space": 1, "graphs": [], "params": {}}, "'space' must be a str, but got 1"),
        ({"space": "s", "graphs": {}, "params": {}}, "'graphs' must be a list"),
        ({"space": "s", "graphs": [3], "params": {}}, "graph must have the fields .* but got int"),
        ([{"name": "g", "nodes": "x"}], "'nodes' must be a list"),
        ([{"name": "g", "nodes": [{**NODE, "more": 1}]}], "node must have the fields .* 'more'"),
        ([{"name": "g", "nodes": [{**NODE, "id": True}]}], "node: 'id' must be a int, but got True"),
        ([{"name": "g", "nodes": [{**NODE, "inputs": ["0"]}]}], "node 1: inputs must be node ids, but got '0'"),
        ([{"name": "g", "nodes": [{**NODE, "params": {"k": None}}]}], r"node 1 \(a\): parameter 'k'"),
        ([{"name": "g", "nodes": [{**NODE, "params": {"k": [1]}}]}], r"node 1 \(a\): parameter 'k'"),
        ('{"space": "s", "graphs": [{"name": "g", "nodes": []}], "params": {}}', "at least one node"),
        ('{"space": "s", "graphs": [], "params": {"d": NaN}}', "'d' must be finite"),
    ],
)  # fmt: skip
def test_json_that_is_no_architecture_is_refused(data: Any, message: str) -> None:
    if isinstance(data, list) and data:
        data = {"space": "s", "graphs": data, "params": {}}
    with pytest.raises(InvalidArchitecture, match=message):
        Architecture.from_json(data if isinstance(data, str) else json.dumps(data))


# --- networkx --------------------------------------------------------------------------------------


def test_networkx_view_keeps_order_repeats_and_scalars() -> None:
    graph = Graph((Node(5, "input"), Node(2, "conv", (5,), (("k", 3),)), Node(9, "concat", (2, 5, 2))))
    view = graph.to_networkx()
    assert list(view.nodes) == [5, 2, 9]
    assert view.nodes[2] == {"op": "conv", "params": {"k": 3}, "output": False}
    assert view.nodes[9]["output"]
    assert sorted((data["position"], source) for source, _, data in view.in_edges(9, data=True)) == [
        (0, 2),
        (1, 5),
        (2, 2),
    ]
    assert nx.is_directed_acyclic_graph(view)
    arch = Architecture("toy", (("a", graph), ("b", graph)), (("space", 3), ("name", "x")))
    whole = arch.to_networkx()
    assert whole.graph == {"space": "toy", "params": {"name": "x", "space": 3}}
    assert set(whole.nodes) == {(name, node) for name in "ab" for node in (5, 2, 9)}
    assert whole.number_of_edges() == 8
    assert [d["position"] for d in whole["b", 2]["b", 9].values()] == [0, 2]


@given(graphs())
def test_networkx_view_holds_the_whole_graph(graph: Graph) -> None:
    view = graph.to_networkx()
    again = []
    for name in view.nodes:
        edges = sorted((data["position"], source) for source, _, data in view.in_edges(name, data=True))
        assert [position for position, _ in edges] == list(range(len(edges)))
        data = view.nodes[name]
        again.append(Node(name, data["op"], tuple(s for _, s in edges), tuple(data["params"].items())))
    assert Graph(tuple(again)) == graph
