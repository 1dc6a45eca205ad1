"""NSGA-Net's macro space against the rules of its released code, written down once more here."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from spaces_contract import SpaceContract, isomorphic

from nas.architecture import Architecture, Graph, InvalidArchitecture
from search_spaces.nsganet import NSGANetSpace

PUBLISHED = "1-00-010-0111-10011-0|0-00-010-0101-11111-0|0-01-101-1011-10011-0"
"""models/macro_genotypes.py of ianwhale/nsga-net, "NSGANet"."""


class TestNSGANet(SpaceContract):
    """Inactive phases among the samples, equal and different widths."""

    def make(self) -> NSGANetSpace:
        return NSGANetSpace((3, 8, 8), nodes=3, filters=(4, 4, 6))


class TestNSGANetOnOddImages(SpaceContract):
    """A first phase as wide as its images; uniform crossover."""

    def make(self) -> NSGANetSpace:
        return NSGANetSpace((4, 5, 11), 3, nodes=4, filters=[4, 6], crossover="uniform")


@pytest.fixture(scope="module")
def space() -> NSGANetSpace:
    return NSGANetSpace()


Reads = dict[int, list[int]]


def dependencies(phase: str) -> tuple[Reads, list[int]]:
    """What each node of "1-00-010-1" reads, and the output, repaired as by the code; 0 is the input."""
    *groups, skip = phase.split("-")
    reads: Reads = {1: []}
    for node, group in enumerate(groups, start=2):
        reads[node] = [source for source, bit in enumerate(group, start=1) if bit == "1"]
    gives = {source for sources in reads.values() for source in sources}
    output = [0] * int(skip) + [node for node, sources in reads.items() if sources and node not in gives]
    for node in gives:
        reads[node] = reads[node] or [0]
    return {node: sources for node, sources in reads.items() if sources}, output


def phases(nodes: int) -> list[str]:
    """Every string of one phase."""
    found = []
    for bits in product("01", repeat=nodes * (nodes - 1) // 2 + 1):
        rest = iter(bits)
        found.append("-".join("".join(next(rest) for _ in range(n)) for n in (*range(1, nodes), 1)))
    return found


def inputs(graph: Graph) -> tuple[Reads, list[int]]:
    """The same as `dependencies`, read off a graph; nodes are numbered anew from 1."""
    number = {graph.nodes[0].id: 0}
    reads: Reads = {}
    for node in graph:
        if node.op == "first_conv":
            number[node.id] = 0
        if node.op == "conv":
            number[node.id] = len(reads) + 1
            reads[number[node.id]] = [number[source] for source in node.inputs]
    output = [number[source] for source in graph.output.inputs] if graph.output.op == "output" else [0]
    return reads, output


# --- strings -------------------------------------------------------------------------------------------


def test_the_genomes_have_21_and_48_bits(space: NSGANetSpace) -> None:
    """Of four nodes, as the code takes, and of six, as the paper does."""
    small = NSGANetSpace(nodes=4)
    assert small.size() == 2**21
    assert space.size() == 2**48
    assert len(small.encode(small.sample(np.random.default_rng(0)))) == 21


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_all_phases_round_trip(nodes: int) -> None:
    space = NSGANetSpace(nodes=nodes, filters=(8,))
    written = set()
    for text in phases(nodes):
        arch = space.decode(text)
        space.check_form(arch)
        assert space.code(arch) == text
        written.add(arch)
    assert len(written) == space.size() == 2 ** (nodes * (nodes - 1) // 2 + 1)


def test_strings_of_three_phases_round_trip(space: NSGANetSpace) -> None:
    rng = np.random.default_rng(0)
    of_six = phases(6)
    for places in rng.integers(len(of_six), size=(1000, 3)):
        text = "|".join(of_six[place] for place in places)
        assert space.code(space.decode(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", PUBLISHED[:-1], PUBLISHED + "0", PUBLISHED[:-2], PUBLISHED.replace("|", ""), "[[1]]",
     PUBLISHED.replace("0", "o"), PUBLISHED.replace("010", "0-10"), PUBLISHED + "|" + PUBLISHED[:21],
     PUBLISHED.replace("-", " ")],
)  # fmt: skip
def test_what_is_no_string_is_refused(space: NSGANetSpace, text: str) -> None:
    phase = "0-00-000-0000-00000-0"
    message = rf"a code must be bits in groups as in '{phase}\|{phase}\|{phase}', but got"
    with pytest.raises(InvalidArchitecture, match=message):
        space.decode(text)


# --- the rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "reads", "output"),
    [
        ("1-00-000-0", {1: [0], 2: [1]}, [2]),
        ("0-00-001-0", {1: [0], 2: [1]}, [2]),  # nodes 1 and 2 are isolated
        ("1-01-001-1", {1: [0], 2: [1], 3: [2], 4: [3]}, [0, 4]),
        ("1-10-100-0", {1: [0], 2: [1], 3: [1], 4: [1]}, [2, 3, 4]),
        ("0-00-111-1", {1: [0], 2: [0], 3: [0], 4: [1, 2, 3]}, [0, 4]),
        ("0-01-110-0", {1: [0], 2: [0], 3: [2], 4: [1, 2]}, [3, 4]),
        ("0-00-000-0", {}, [0]),
        ("0-00-000-1", {}, [0]),
    ],
)
def test_what_a_phase_is(phase: str, reads: Reads, output: list[int]) -> None:
    space = NSGANetSpace(nodes=4, filters=(8,))
    network = space.canonical(space.decode(phase)).graph("phase1")
    assert inputs(network) == (reads, output)


def test_every_phase_is_repaired_as_the_code_does() -> None:
    space = NSGANetSpace(nodes=5, filters=(8,))
    for phase in phases(5):
        reads, output = dependencies(phase)
        number = {0: 0} | {node: i for i, node in enumerate(reads, start=1)}
        expected = {number[node]: [number[s] for s in sources] for node, sources in reads.items()}
        found = inputs(space.canonical(space.decode(phase)).graph("phase1"))
        assert found == (expected, [number[s] for s in output] or [0])


def test_the_skip_of_an_inactive_phase_changes_nothing_but_the_string() -> None:
    space = NSGANetSpace((3, 8, 8), nodes=3, filters=(8, 8))
    one, other = (space.decode(text) for text in ("1-00-0|0-00-0", "1-00-0|0-00-1"))
    assert one != other
    assert space.canonical(one) != one
    assert space.canonical(one) == space.canonical(other)
    assert space.cost(one) == space.cost(other)
    assert [node.op for node in space.canonical(one).graph("phase2")] == ["input"]


def test_all_phases_can_be_inactive() -> None:
    """Even where no width changes: pooled, averaged, classified."""
    space = NSGANetSpace((2, 8, 8), nodes=3, filters=(2, 2))
    arch = space.decode("0-00-0|0-00-1")
    x = torch.randn(3, 2, 8, 8)
    model = space.build(space.canonical(arch))
    pooled = torch.nn.functional.max_pool2d(x, 2).mean((2, 3))
    torch.testing.assert_close(model(x), model.head.linear(pooled))
    assert space.cost(arch).params == 2 * 10 + 10


def test_params_and_macs_of_the_codes_residual_phases(space: NSGANetSpace) -> None:
    """First convolution, 1x1 convolutions of several inputs, convolutions, batch norms, two poolings."""
    rng = np.random.default_rng(0)
    for text in [PUBLISHED, *(space.code(space.sample(rng)) for _ in range(50))]:
        params = macs = 0
        channels, side = 3, 32
        for phase, width in zip(text.split("|"), (32, 64, 128), strict=True):
            reads, output = dependencies(phase)
            assert reads
            weights = channels * width * (9 if channels == 3 else 1)
            for sources in (*reads.values(), output):
                weights += len(sources) * width**2 if len(sources) > 1 else 0
            weights += 9 * width**2 * len(reads)
            params += weights + 2 * width * (len(reads) + 1)
            macs += weights * side**2
            channels, side = width, side // 2
        cost = space.cost(space.decode(text))
        assert (cost.params, cost.macs) == (params + 128 * 10 + 10, macs + 128 * 10)


def test_the_published_networks_params_follow_from_its_connections() -> None:
    """3.37M (README), of the code's "dense" phases: what nodes read is the same, what they are is not.

    A node is batch norm, 1x1 to 256, batch norm, 3x3 to 64; the phases have 128 channels. The code also
    counts the first convolutions of the later phases, which it makes and never uses.
    """
    space = NSGANetSpace(filters=(128, 128, 128))
    arch = space.decode(PUBLISHED)
    params = 9 * 3 * 128 + 2 * 128 * 128
    for _, graph in arch.graphs:
        reads, output = inputs(graph)
        for sources in reads.values():
            given = sum(64 if source else 128 for source in sources)
            params += 2 * given + given * 256 + 2 * 256 + 256 * 64 * 9
        params += sum(64 if source else 128 for source in output) * 128 + 2 * 128
    params += 128 * 10 + 10
    assert round(params / 1e6, 2) == 3.37


def test_a_phase_computes_what_the_codes_residual_phase_computes() -> None:
    """The built network against the rules, with the network's own convolutions."""
    space = NSGANetSpace((2, 6, 6), nodes=4, filters=(5,))
    x = torch.randn(2, 2, 6, 6)
    rng = np.random.default_rng(0)
    for phase in rng.choice([p for p in phases(4) if "1" in p[:-1]], 20, replace=False):
        reads, output = dependencies(phase)
        arch = space.decode(phase)
        model = space.build(arch).eval()
        convs = [node.id for node in arch.graph("phase1") if node.op == "conv"]
        module = dict(zip(reads, convs, strict=True))
        values = {0: model.get_submodule("phase1.n1.conv")(x)}

        def merged(name: str, sources: list[int], model: Any = model, values: Any = values) -> Any:
            if len(sources) == 1:
                return values[sources[0]]
            side_by_side = torch.cat([values[source] for source in sources], dim=1)
            return model.get_submodule(f"{name}.merge")(side_by_side)

        for node, sources in reads.items():
            name = f"phase1.n{module[node]}"
            block = model.get_submodule(name).block
            values[node] = torch.relu(block.bn(block.conv(merged(name, sources))))
        end = f"phase1.n{arch.graph('phase1').output.id}"
        y = torch.relu(model.get_submodule(end).bn(merged(end, output)))
        torch.testing.assert_close(model(x), model.head.linear(y.mean((2, 3))))


# --- networks ------------------------------------------------------------------------------------------


def smallest_form(phase: str) -> tuple[Any, ...]:
    """The same for phases that differ in the order of their nodes only: the least over all orders."""
    reads, output = dependencies(phase)
    forms = []
    for order in permutations(range(1, len(reads) + 1)):
        number = {0: 0} | dict(zip(reads, order, strict=True))
        rows = sorted((number[node], tuple(number[s] for s in sources)) for node, sources in reads.items())
        forms.append((tuple(rows), tuple(number[s] for s in output) if reads else ()))
    return min(forms)


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_as_many_networks_as_by_brute_force(nodes: int) -> None:
    space = NSGANetSpace(nodes=nodes, filters=(8,))
    forms: dict[str, set[tuple[Any, ...]]] = {}
    for phase in phases(nodes):
        forms.setdefault(space.canonical(space.decode(phase)).key, set()).add(smallest_form(phase))
    assert all(len(found) == 1 for found in forms.values())
    assert len(set.union(*forms.values())) == len(forms)


def test_keys_are_equal_exactly_for_isomorphic_networks() -> None:
    space = NSGANetSpace(nodes=4, filters=(8,))
    networks = [space.canonical(space.decode(phase)) for phase in phases(4)]
    for a, b in combinations(networks, 2):
        assert (a.key == b.key) == isomorphic(a, b)


# --- sampling ------------------------------------------------------------------------------------------


def test_samples_are_uniform() -> None:
    space = NSGANetSpace(nodes=3, filters=(8, 8))
    rng = np.random.default_rng(0)
    drawn = Counter(space.code(space.sample(rng)) for _ in range(12_800))
    assert len(drawn) == 256
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


def test_a_mutation_flips_one_bit_each_equally_often(space: NSGANetSpace) -> None:
    rng = np.random.default_rng(0)
    arch = space.decode(PUBLISHED)
    drawn = Counter(space.code(space.mutate(arch, rng)) for _ in range(4800))
    assert set(drawn) == {space.code(other) for other in space.neighbors(arch)}
    assert len(drawn) == 48
    assert all(sum(a != b for a, b in zip(PUBLISHED, other, strict=True)) == 1 for other in drawn)
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


# --- what cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "change", "message"),
    [
        ("1-10-1", 1, {"params": {"kernel": 1}}, r"node 1 \(first_conv\): .* parameters \{'kernel': 3\}"),
        ("1-10-1", 1, {"params": {"kernel": 3.0}}, r"node 1 \(first_conv\): .* got .*'kernel': 3.0"),
        ("1-10-1", 3, {"inputs": [1]}, r"node 8 \(conv\): .* writes 'isolated' here, .* got \(1,\)"),
        ("1-10-1", 5, {"inputs": [8, 11, 1]}, r"node 2 \(output\): .* with inputs \(1, 8, 11\)"),
        ("1-10-1", 5, {"inputs": [8, 11], "op": "concat"}, r"node 2 \(concat\): .* writes 'output' here"),
        ("0-11-0", 4, {"inputs": [8, 5]}, r"node 11 \(conv\): .* with inputs \(5, 8\) .* got \(8, 5\)"),
        ("0-00-1", 5, {"params": {"skip": 2}}, r"node 4 \(inactive\): skip must be .* \(0, 1\), but got 2"),
        ("0-00-1", 5, {"params": {"skip": True}}, r"node 4 \(inactive\): skip must be one of .* got True"),
        ("0-00-1", 5, {"params": {}}, r"node 4 \(inactive\): .*parameter 'skip' is missing"),
        ("0-00-1", 3, {"op": "conv"}, r"node 10 \(conv\): .* writes 'isolated' here"),
    ],
)
def test_an_edited_phase_names_node_and_rule(
    text: str, place: int, change: dict[str, Any], message: str
) -> None:
    space = NSGANetSpace(nodes=3, filters=(8,))
    data = space.decode(text).to_dict()
    data["graphs"][0]["nodes"][place] |= change
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(Architecture.from_dict(data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 3, 32)}, "must be at least 4 to be halved 2 times, but got"),
        ({"input_shape": (3, 32)}, r"input_shape must be \(channels, height, width\)"),
        ({"classes": 1}, "`classes >= 2` must hold"),
        ({"nodes": 1}, "`nodes >= 2` must hold, but got nodes=1"),
        ({"nodes": 4.0}, "nodes=4.0"),
        ({"filters": ()}, r"filters must be positive integers, one a phase, but got \[\]"),
        ({"filters": (8, 0)}, "filters must be positive integers"),
        ({"filters": (8, 8.0)}, "filters must be positive integers"),
        ({"crossover": "swap"}, "crossover must be one of"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NSGANetSpace(**arguments)
