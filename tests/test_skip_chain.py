"""The chain with anchor skips: the rules of Zoph & Le 2017, section 3.3, by hand."""

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
from search_spaces.skip_chain import SkipChainSpace

Reads = dict[int, tuple[int, ...]]


class TestSkipChain(SpaceContract):
    def make(self) -> SkipChainSpace:
        return SkipChainSpace((3, 8, 8), layers=4, filters=(4, 5, 8))


class TestSkipChainOnOddImages(SpaceContract):
    """Sides smaller than filters, one choice of height, one-point crossover."""

    def make(self) -> SkipChainSpace:
        return SkipChainSpace((1, 5, 6), 3, 3, [3], [1, 7], [4, 6], crossover="point")


@pytest.fixture(scope="module")
def space() -> SkipChainSpace:
    return SkipChainSpace()


def small(layers: int, heights: tuple[int, ...] = (3,)) -> SkipChainSpace:
    return SkipChainSpace((2, 6, 6), layers=layers, heights=heights, widths=(3,), filters=(4,))


def anchored(space: SkipChainSpace, bits: str, heights: tuple[int, ...] = ()) -> Architecture:
    """Layers of 3x3 filters (or these heights), with anchor bits "1-01": 2 reads 1, 3 reads 2."""
    values: list[int] = []
    groups = ["", *bits.split("-")] if bits else [""]
    for group, height in zip(groups, heights or (3,) * len(groups), strict=True):
        values += [height, 3, 4, *map(int, group)]
    return space.architecture({"net": tuple(values)})


def every(space: SkipChainSpace) -> list[Architecture]:
    genes = space.genes["net"]
    return [space.architecture({"net": values}) for values in product(*(gene.choices for gene in genes))]


def reads(graph: Graph) -> tuple[Reads, tuple[int, ...]]:
    """What each convolution reads, and what the classifier does; numbered from 1 as listed, 0: the image."""
    number = {graph.nodes[0].id: (0,)}
    found: Reads = {}
    for node in graph.nodes[1:]:
        sources = tuple(n for source in node.inputs for n in number[source])
        if node.op == "conv":
            found[len(found) + 1] = sources
            number[node.id] = (len(found),)
        else:
            number[node.id] = sources
    return found, number[graph.output.id]


# --- the rules -----------------------------------------------------------------------------------------


def test_choices_and_size_of_the_paper(space: SkipChainSpace) -> None:
    """Section 4.1: heights and widths of 1, 3, 5, 7; 24, 36, 48 or 64 filters; a bit for each pair."""
    genes = {gene.name: gene.choices for gene in space.genes["net"]}
    assert genes["filter_height 1"] == genes["filter_width 6"] == (1, 3, 5, 7)
    assert genes["filters 3"] == (24, 36, 48, 64)
    assert sum(choices == (0, 1) for choices in genes.values()) == 15
    assert {"2<1", "6<1", "6<5"} < set(genes)
    assert space.size() == 64**6 * 2**15


@pytest.mark.parametrize(
    ("bits", "expected", "classified"),
    [
        ("", {1: (0,)}, (1,)),
        ("1-01-001", {1: (0,), 2: (1,), 3: (2,), 4: (3,)}, (4,)),
        ("0-00-000", {1: (0,), 2: (0,), 3: (0,), 4: (0,)}, (1, 2, 3, 4)),
        ("1-11-111", {1: (0,), 2: (1,), 3: (1, 2), 4: (1, 2, 3)}, (4,)),
        ("1-00-011", {1: (0,), 2: (1,), 3: (0,), 4: (2, 3)}, (4,)),
        ("1-10-100", {1: (0,), 2: (1,), 3: (1,), 4: (1,)}, (2, 3, 4)),
        ("0-10-010", {1: (0,), 2: (0,), 3: (1,), 4: (2,)}, (3, 4)),
    ],
)
def test_what_the_anchors_say(bits: str, expected: Reads, classified: tuple[int, ...]) -> None:
    space = small(len(expected))
    assert reads(anchored(space, bits).graph()) == (expected, classified)


def test_filters_are_rectangles_and_keep_the_sides(space: SkipChainSpace) -> None:
    only = SkipChainSpace((3, 9, 4), layers=1, heights=(7,), widths=(1,), filters=(24,))
    arch = only.sample(np.random.default_rng(0))
    model = only.build(arch)
    assert model.net.n1.block.conv.weight.shape == (24, 3, 7, 1)
    with torch.no_grad():
        assert model.net.n1.block.conv(torch.zeros(1, 3, 9, 4)).shape == (1, 24, 9, 4)
    assert only.cost(arch).macs == 3 * 24 * 7 * 9 * 4 + 24 * 10


def test_params_and_macs_by_hand(space: SkipChainSpace) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = space.values(arch := space.sample(rng))["net"]
        params = macs = place = 0
        outputs: list[int] = []
        unread = set(range(space.layers))
        for layer in range(space.layers):
            height, width, filters, *bits = map(int, values[place : place + 3 + layer])
            place += 3 + layer
            sources = [source for source, bit in enumerate(bits) if bit]
            unread -= set(sources)
            given = sum(outputs[source] for source in sources) or 3
            params += given * filters * height * width + 2 * filters
            macs += given * filters * height * width * 32 * 32
            outputs.append(filters)
        features = sum(outputs[layer] for layer in unread)
        cost = space.cost(arch)
        assert (cost.params, cost.macs) == (params + features * 10 + 10, macs + features * 10)


def test_the_network_computes_what_the_anchors_say() -> None:
    space = SkipChainSpace((2, 6, 6), layers=5, filters=(3, 4))
    rng = np.random.default_rng(0)
    x = torch.randn(2, 2, 6, 6)
    for _ in range(10):
        arch = space.sample(rng)
        model = space.build(arch).eval()
        sources, classified = reads(arch.graph())
        values = {0: x}
        for layer, read in sources.items():
            block = model.get_submodule(f"net.n{layer}.block")
            given = torch.cat([values[source] for source in read], dim=1)
            values[layer] = torch.relu(block.bn(block.conv(given)))
        y = torch.cat([values[layer] for layer in classified], dim=1).mean((2, 3))
        torch.testing.assert_close(model(x), model.head.linear(y))


# --- written forms and networks ------------------------------------------------------------------------


def test_all_values_are_read_back() -> None:
    space = SkipChainSpace(layers=3, heights=(1, 3), widths=(3, 5), filters=(24, 36))
    genes = space.genes["net"]
    written = set()
    for values in product(*(gene.choices for gene in genes)):
        arch = space.architecture({"net": values})
        space.check_form(arch)
        assert space.values(arch)["net"] == values
        written.add(arch)
    assert len(written) == space.size() == 8**3 * 2**3


def test_keys_are_equal_exactly_for_isomorphic_networks() -> None:
    """Written in another order of its layers, a network is the same one if all concatenations agree."""
    networks = [space.canonical(arch) for space in [small(3, (3, 5))] for arch in every(space)]
    networks += [small(4).canonical(arch) for arch in every(small(4))]
    for a, b in combinations(networks, 2):
        assert (a.key == b.key) == isomorphic(a, b)
    assert len({network.key for network in networks}) < len(networks)


def smallest_form(arch: Architecture) -> tuple[Any, ...]:
    """The same for chains that differ in the order of their layers only: the least over all orders."""
    sources, classified = reads(arch.graph())
    heights = [node["filter_height"] for node in arch.graph() if node.op == "conv"]
    forms = []
    for order in permutations(sources):
        number = {0: 0} | dict(zip(sources, order, strict=True))
        rows = sorted(
            (number[layer], heights[layer - 1], tuple(number[s] for s in read))
            for layer, read in sources.items()
        )
        forms.append((tuple(rows), tuple(number[layer] for layer in classified)))
    return min(forms)


@pytest.mark.parametrize(("layers", "heights"), [(2, (1, 3)), (3, (1, 3)), (4, (3,)), (5, (3,))])
def test_as_many_networks_as_by_brute_force(layers: int, heights: tuple[int, ...]) -> None:
    space = small(layers, heights)
    forms: dict[str, set[tuple[Any, ...]]] = {}
    for arch in every(space):
        forms.setdefault(space.canonical(arch).key, set()).add(smallest_form(arch))
    assert all(len(found) == 1 for found in forms.values())
    assert len(set.union(*forms.values())) == len(forms) <= space.size()


def test_two_orders_of_the_same_layers_are_one_network() -> None:
    """1 -> 3 beside 2, and 2 -> 3 beside 1, differ in the order of the last concatenation: (2, 3), (1, 3)."""
    space = small(3, (3, 5, 7))
    one = anchored(space, "0-10", (3, 5, 7))
    same = anchored(space, "0-01", (5, 3, 7))
    other = anchored(space, "0-01", (3, 5, 7))
    assert space.canonical(one).key == space.canonical(same).key != space.canonical(other).key


# --- sampling ------------------------------------------------------------------------------------------


def test_samples_are_uniform() -> None:
    space = small(3, (1, 3))
    rng = np.random.default_rng(0)
    drawn = Counter(space.values(space.sample(rng))["net"] for _ in range(6400))
    assert len(drawn) == 64
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


def test_a_mutation_changes_one_gene_each_equally_often(space: SkipChainSpace) -> None:
    rng = np.random.default_rng(0)
    arch = space.sample(rng)
    before = space.values(arch)["net"]
    changed: Counter[int] = Counter()
    for _ in range(3300):
        after = space.values(space.mutate(arch, rng))["net"]
        (gene,) = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        changed[gene] += 1
    assert len(changed) == 18 + 15
    assert stats.chisquare(list(changed.values())).pvalue > 0.001


def test_layers_keep_their_ids_whatever_they_read() -> None:
    space = small(4)
    for arch in every(space):
        assert [node.id for node in arch.graph() if node.op == "conv"] == [1, 2, 3, 4]


# --- what cannot be ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (1, {"params": {"filter_height": 3, "filter_width": 3, "filters": 8}},
         r"node 1 \(conv\): filters 1 must be one of \(4,\), but got 8"),
        (1, {"params": {"filter_height": 9, "filter_width": 3, "filters": 4}},
         r"node 1 \(conv\): filter_height 1 must be one of \(3,\), but got 9"),
        (1, {"params": {"filter_height": 3, "filters": 4}}, r"node 1 \(conv\): .*'filter_width' is missing"),
        (2, {"inputs": [0, 1]}, r"node 2 \(conv\): .* with inputs \(1,\) .* got \(0, 1\)"),
        (3, {"inputs": [2, 1]}, r"node 6 \(concat\): .* with inputs \(1, 2\) .* got \(2, 1\)"),
        (3, {"op": "add"}, r"node 6 \(add\): parameter 'filter_height' is missing"),
        (3, {"inputs": [1, 1]}, r"node 6 \(concat\): .* writes 'conv' here, .* got \(1, 1\)"),
        (4, {"inputs": [6, 2]}, r"node 3 \(conv\): .* with inputs \(6,\) .* got \(6, 2\)"),
    ],
)  # fmt: skip
def test_an_edited_chain_names_node_and_rule(place: int, change: dict[str, Any], message: str) -> None:
    space = small(3)
    data = anchored(space, "1-11").to_dict()
    data["graphs"][0]["nodes"][place] |= change
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(Architecture.from_dict(data))


def test_a_chain_without_its_last_concatenation_is_refused() -> None:
    space = small(2)
    data = anchored(space, "0").to_dict()
    del data["graphs"][0]["nodes"][-1]
    with pytest.raises(InvalidArchitecture, match=r"graph 'net' must have 4 nodes with .*, but got 3"):
        space.check(Architecture.from_dict(data))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 32)}, r"input_shape must be \(channels, height, width\)"),
        ({"classes": 1}, "`classes >= 2` must hold"),
        ({"layers": 0}, "`layers >= 1` must hold, but got layers=0"),
        ({"layers": 2.0}, "layers=2.0"),
        ({"heights": ()}, r"heights must be different positive integers, but got \[\]"),
        ({"heights": (3, 3)}, r"heights must be different positive integers, but got \[3, 3\]"),
        ({"heights": (2, 3)}, r"heights must be odd, but got \[2, 3\]"),
        ({"widths": (4,)}, r"widths must be odd, but got \[4\]"),
        ({"widths": (True,)}, "widths must be different positive integers"),
        ({"filters": (0,)}, "filters must be different positive integers"),
        ({"crossover": "swap"}, "crossover must be one of"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SkipChainSpace(**arguments)
