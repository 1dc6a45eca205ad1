"""Genetic CNN: the rules of section 3.1 by hand, its strings, and how many networks they are."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from spaces_contract import SpaceContract, isomorphic

from nas.architecture import Architecture, Graph, InvalidArchitecture
from search_spaces.genetic_cnn import GeneticCNNSpace

UNLABELLED_DAGS = {1: 1, 2: 2, 3: 6, 4: 31, 5: 302}
"""Acyclic directed graphs of n nodes up to isomorphism (OEIS A003087).

A stage is one of them: nodes are alike but for their connections, and isolated ones stand for "not there".
"""


class TestGeneticCNN(SpaceContract):
    def make(self) -> GeneticCNNSpace:
        return GeneticCNNSpace((3, 9, 8), nodes=(3, 4, 3), filters=(4, 6, 5), hidden=7)


class TestGeneticCNNWithoutAHiddenLayer(SpaceContract):
    def make(self) -> GeneticCNNSpace:
        return GeneticCNNSpace((1, 5, 11), 3, nodes=[5, 2], filters=[4, 4], hidden=0, crossover="uniform")


@pytest.fixture(scope="module")
def space() -> GeneticCNNSpace:
    return GeneticCNNSpace()


def codes(space: GeneticCNNSpace) -> list[str]:
    """Every string of a small space."""
    template = space.code(space.sample(np.random.default_rng(0)))
    places = [i for i, character in enumerate(template) if character in "01"]
    found = []
    for bits in product("01", repeat=len(places)):
        text = list(template)
        for place, bit in zip(places, bits, strict=True):
            text[place] = bit
        found.append("".join(text))
    return found


# --- strings -------------------------------------------------------------------------------------------


def test_the_papers_spaces_have_13_and_19_bits(space: GeneticCNNSpace) -> None:
    """Sections 4.1 and 4.2."""
    mnist = GeneticCNNSpace((1, 28, 28), nodes=(3, 5), filters=(20, 50), hidden=500)
    assert [len(s.sample(np.random.default_rng(0)).graphs) for s in (mnist, space)] == [2, 3]
    assert mnist.size() == 2**13
    assert space.size() == 2**19 == 524_288
    assert len(space.encode(space.sample(np.random.default_rng(0)))) == 19


@pytest.mark.parametrize("nodes", [(2,), (4,), (5,), (3, 4)])
def test_all_strings_round_trip(nodes: tuple[int, ...]) -> None:
    space = GeneticCNNSpace(nodes=nodes, filters=[8] * len(nodes))
    written = set()
    for text in codes(space):
        arch = space.decode(text)
        space.check_form(arch)
        assert space.code(arch) == text
        written.add(arch)
    assert len(written) == space.size() == 2 ** sum(n * (n - 1) // 2 for n in nodes)


@pytest.mark.parametrize(
    "text",
    ["", "1-01", "1-01|0-01-100|0-11-101", "1-01|0-01-100|0-11-101-00011", "1-01|0-01-100|0-11-101-0002",
     "1-01|0-01-100|0-11-101-000", "1-10|001-100|0-11-101-0001", "1-01 | 0-01-100 | 0-11-101-0001",
     "1-01-0-01-100|0-11-101-0001", "1-01|0-01-1٠0|0-11-101-0001"],
)  # fmt: skip
def test_what_is_no_string_is_refused(space: GeneticCNNSpace, text: str) -> None:
    message = r"a code must be bits in groups as in '0-00\|0-00-000\|0-00-000-0000', but got"
    with pytest.raises(InvalidArchitecture, match=message):
        space.decode(text)


# --- the rules -----------------------------------------------------------------------------------------


def convolutions(graph: Graph) -> list[tuple[int, ...]]:
    """For each convolution which ones it reads (-1: the input), by their place among the convolutions."""
    place = {graph.nodes[0].id: -1}
    found: list[tuple[int, ...]] = []
    sums = {node.id: node.inputs for node in graph if node.op == "add"}
    for node in graph:
        if node.op == "conv":
            (source,) = node.inputs
            found.append(tuple(place[i] for i in sums.get(source, (source,))))
            place[node.id] = len(found) - 1
    return found


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("0-00-000", [(-1,)]),  # no connection: the convolution is performed only once
        ("1-00-000", [(-1,), (0,), (1,), (2,)]),
        ("0-00-001", [(-1,), (0,), (1,), (2,)]),  # nodes 1 and 2 are isolated
        ("1-01-001", [(-1,), (0,), (1,), (2,), (3,), (4,)]),  # a chain
        ("1-00-001", [(-1,), (0,), (1,), (0,), (3,), (2, 4)]),  # two chains
        ("0-11-000", [(-1,), (0,), (0,), (1, 2), (3,)]),  # node 4 is isolated
        ("1-11-111", [(-1,), (0,), (1,), (1, 2), (1, 2, 3), (4,)]),
        ("1-01-100", [(-1,), (0,), (1,), (2,), (1,), (3, 4)]),
    ],
)
def test_what_a_stage_is(stage: str, expected: list[tuple[int, ...]]) -> None:
    space = GeneticCNNSpace(nodes=(4,), filters=(8,))
    network = space.canonical(space.decode(stage)).graph("stage1")
    assert convolutions(network) == expected
    assert {node.op for node in network} <= {"input", "conv", "add"}


def test_a_node_keeps_its_id_when_others_change() -> None:
    space = GeneticCNNSpace(nodes=(4,), filters=(8,))
    few, many = (space.decode(text).graph("stage1") for text in ("0-00-001", "1-11-111"))
    ids = {node.id for node in few if node.op == "conv"}
    assert ids < {node.id for node in many if node.op == "conv"}
    assert few.output.id == many.output.id


def test_params_and_macs_by_hand(space: GeneticCNNSpace) -> None:
    """3x3 convolutions without bias, batch norm, three poolings: 32 -> 4, then 128 units."""
    rng = np.random.default_rng(0)
    for arch in [space.decode("0-00|0-00-000|0-00-000-0000"), *(space.sample(rng) for _ in range(30))]:
        params = macs = 0
        channels, side = 3, 32
        for stage, filters in zip(space.code(arch).split("|"), (8, 16, 32), strict=True):
            edges = [
                (source, target)
                for target, group in enumerate(stage.split("-"), start=2)
                for source, bit in enumerate(group, start=1)
                if bit == "1"
            ]
            connected = len({node for edge in edges for node in edge})
            more = connected + 1 if connected else 0  # convolutions behind the default input
            params += 9 * channels * filters + 2 * filters + more * (9 * filters**2 + 2 * filters)
            macs += (9 * channels * filters + more * 9 * filters**2) * side**2
            channels, side = filters, side // 2
        params += (4 * 4 * 32 + 1) * 128 + (128 + 1) * 10
        macs += 4 * 4 * 32 * 128 + 128 * 10
        cost = space.cost(space.canonical(arch))
        assert (cost.params, cost.macs) == (params, macs)


def test_a_node_convolves_the_sum_of_what_it_reads() -> None:
    """The built network against the matrix of connections, with the network's own convolutions."""
    space = GeneticCNNSpace((2, 8, 8), nodes=(5,), filters=(6,), hidden=0)
    rng = np.random.default_rng(0)
    x = torch.randn(2, 2, 8, 8)
    for _ in range(10):
        arch = space.sample(rng)
        groups = space.code(arch).split("-")
        reads = {
            node: [s for s in range(1, node) if groups[node - 2][s - 1] == "1"] for node in range(2, 6)
        } | {1: []}
        read = {source for sources in reads.values() for source in sources}
        model = space.build(arch).eval()
        convs = [node.id for node in arch.graph("stage1") if node.op == "conv"]

        def conv(place: int, *inputs: Any, model: Any = model, convs: list[int] = convs) -> Any:
            block = model.get_submodule(f"stage1.n{convs[place]}.block")
            return torch.relu(block.bn(block.conv(torch.stack(inputs).sum(0))))

        first = conv(0, x)
        outputs: dict[int, Any] = {}
        for node in range(1, 6):
            if reads[node] or node in read:
                inputs = [outputs[source] for source in reads[node]] or [first]
                outputs[node] = conv(len(outputs) + 1, *inputs)
        ends = [outputs[node] for node in outputs if node not in read]
        y = conv(len(outputs) + 1, *ends) if ends else first
        pooled = torch.nn.functional.max_pool2d(y, 2).mean((2, 3))
        torch.testing.assert_close(model(x), model.head.linear(pooled))


# --- networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "nodes"), [(0, 3), (1, 4), (2, 5)])
def test_networks_of_a_stage_are_the_unlabelled_dags(space: GeneticCNNSpace, place: int, nodes: int) -> None:
    """So CIFAR-10's 524,288 strings are 6 x 31 x 302 = 56,172 networks."""
    groups = ["0" * length for length in range(1, nodes)]
    keys = set()
    for bits in product("01", repeat=nodes * (nodes - 1) // 2):
        rest = iter(bits)
        stages = ["0-00", "0-00-000", "0-00-000-0000"]
        stages[place] = "-".join("".join(next(rest) for _ in group) for group in groups)
        keys.add(space.canonical(space.decode("|".join(stages))).key)
    assert len(keys) == UNLABELLED_DAGS[nodes]


@pytest.mark.parametrize("nodes", [(4,), (2, 3)])
def test_keys_are_equal_exactly_for_isomorphic_networks(nodes: tuple[int, ...]) -> None:
    space = GeneticCNNSpace(nodes=nodes, filters=[8] * len(nodes))
    networks = [space.canonical(space.decode(text)) for text in codes(space)]
    for a, b in combinations(networks, 2):
        assert (a.key == b.key) == isomorphic(a, b)
    assert len({network.key for network in networks}) == np.prod([UNLABELLED_DAGS[n] for n in nodes])


# --- sampling ------------------------------------------------------------------------------------------


def test_samples_are_uniform() -> None:
    space = GeneticCNNSpace(nodes=(3, 3), filters=(8, 8))
    rng = np.random.default_rng(0)
    drawn = Counter(space.code(space.sample(rng)) for _ in range(6400))
    assert len(drawn) == 64
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


def test_a_mutation_flips_one_bit_each_equally_often(space: GeneticCNNSpace) -> None:
    rng = np.random.default_rng(0)
    text = "1-01|0-01-100|0-11-101-0001"
    arch = space.decode(text)
    drawn = Counter(space.code(space.mutate(arch, rng)) for _ in range(3800))
    assert set(drawn) == {space.code(other) for other in space.neighbors(arch)}
    assert len(drawn) == 19
    assert all(sum(a != b for a, b in zip(text, other, strict=True)) == 1 for other in drawn)
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


# --- what cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (1, {"inputs": []}, r"node 1 \(conv\): space 'genetic_cnn' writes 'conv' here, with inputs \(0,\)"),
        (2, {"op": "isolated"}, r"node 5 \(isolated\): .* writes 'conv' here, with inputs \(1,\)"),
        (3, {"inputs": [1]}, r"node 8 \(conv\): .* got \(1,\)"),
        (4, {"params": {"kernel": 3}}, r"node 11 \(conv\): .* parameters \{\}, but got .*'kernel': 3"),
        (5, {"op": "concat"}, r"node 3 \(concat\): .* writes 'add' here"),
        (5, {"inputs": [8, 8]}, r"node 3 \(add\): .* with inputs \(8, 11\)"),
        (6, {"inputs": [11]}, r"node 2 \(conv\): .* with inputs \(3,\) .* got \(11,\)"),
    ],
)
def test_an_edited_stage_names_node_and_rule(place: int, change: dict[str, Any], message: str) -> None:
    space = GeneticCNNSpace(nodes=(3,), filters=(8,))
    data = space.decode("1-10").to_dict()
    data["graphs"][0]["nodes"][place] |= change
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(Architecture.from_dict(data))


def test_a_stage_that_lacks_nodes_is_refused() -> None:
    space = GeneticCNNSpace(nodes=(3,), filters=(8,))
    data = space.decode("0-00").to_dict()
    del data["graphs"][0]["nodes"][4:]
    with pytest.raises(InvalidArchitecture, match=r"node 10 \(isolated\): .* space 'genetic_cnn' writes"):
        space.check(Architecture.from_dict(data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 7, 32)}, "must be at least 8 to be halved 3 times, but got"),
        ({"input_shape": (3, 32)}, r"input_shape must be \(channels, height, width\)"),
        ({"classes": 1}, "`classes >= 2` must hold"),
        ({"nodes": ()}, r"nodes must be integers >= 2, one a stage, but got \[\]"),
        ({"nodes": (3, 1, 4)}, r"nodes must be integers >= 2, one a stage, but got \[3, 1, 4\]"),
        ({"nodes": (3.0, 4, 5)}, "nodes must be integers"),
        ({"filters": (8, 16)}, r"filters must be 3 positive integers, one a stage, but got \[8, 16\]"),
        ({"filters": (8, 16, 0)}, "filters must be 3 positive integers"),
        ({"filters": (8, 16, True)}, "filters must be 3 positive integers"),
        ({"hidden": -1}, "`hidden >= 0` must hold, but got hidden=-1"),
        ({"crossover": "swap"}, "crossover must be one of"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneticCNNSpace(**arguments)
