# ruff: noqa: E501
"""NAS-Bench-101 against published rows of its table, and its keys against isomorphism."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, permutations, product
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import stats
from spaces_contract import SpaceContract, nodes
from torch import nn

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from nas.protocols import NothingToChange
from search_spaces import dag
from search_spaces import nasbench101 as module
from search_spaces.dag_cell import vertex_channels
from search_spaces.nasbench101 import OPS, NASBench101Space

CONV3, CONV1, POOL = OPS
ENDS = ("input", "output")


def columns_of(*rows: str) -> tuple[int, ...]:
    """Columns of the rows of an upper triangle."""
    size = len(rows) + 1
    bits = {(u, u + 1 + i): bit == "1" for u, row in enumerate(rows) for i, bit in enumerate(row)}
    return tuple(sum(1 << u for u in range(v) if bits[u, v]) for v in range(size))


# --- the contract ----------------------------------------------------------------------------------


class CellContract(SpaceContract):
    """The canonical form lists the vertices anew, so the channels of a concatenation stand in another order,
    and where they cannot be divided evenly another vertex has one more. The function is the same once what
    reads them is permuted; `even` says that all channels are divided evenly."""

    even = True

    def test_the_network_runs_trains_and_computes_the_same_in_canonical_form(
        self, space: Any, samples: list[Architecture]
    ) -> None:
        torch.manual_seed(0)
        x = torch.randn(3, *space.input_shape)
        rng = np.random.default_rng(0)
        more = [space.sample(rng) for _ in range(400)]
        relisted = [arch for arch in more if space.canonical(arch) != arch]
        assert relisted
        for arch in [*samples[:2], *relisted[:3]]:
            written, network = space.build(arch), space.build(space.canonical(arch))
            for layer in written.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    nn.init.uniform_(layer.weight, 0.5, 1.5)
                    nn.init.normal_(layer.bias)
                    nn.init.normal_(layer.running_mean)
            if self.even:
                network.load_state_dict(carried_over(space, arch, written.state_dict()))
                y, z = written.eval()(x), network.eval()(x)
                torch.testing.assert_close(z, y, rtol=0, atol=1e-5 * float(y.detach().abs().max()))
            y = network.train()(x)
            assert y.shape == (3, space.classes)
            assert torch.isfinite(y).all()
            y.sum().backward()
            assert all(p.grad is not None for p in network.parameters())

    def test_canonical_forms_are_written_forms(self, space: Any, samples: list[Architecture]) -> None:
        for arch in samples:
            network = space.canonical(arch)
            space.check(network)
            assert space.module_hash(network) == space.module_hash(arch)
            if self.even:
                written, listed = space.cost(arch), space.cost(network)
                assert (written.params, written.macs) == (listed.params, listed.macs)


def carried_over(space: NASBench101Space, arch: Architecture, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights of the written form, with the channels in the canonical form's order."""

    def parts(form: Architecture) -> list[int]:
        return [source for node in form.graph("cell") if node.op == "concat" for source in node.inputs]

    old, new = parts(arch), parts(space.canonical(arch))
    output = arch.graph("cell").output

    def relisted(value: torch.Tensor, axis: int) -> torch.Tensor:
        """Channels of a concatenation, which stand in blocks of one vertex each."""
        blocks = value.chunk(len(old), dim=axis) if old else [value]
        return torch.cat([blocks[old.index(node_id)] for node_id in new], dim=axis) if old else value

    carried = dict(weights)
    for node in arch.graph("cell"):
        for name in weights:
            if node.op == "projection" and f".n{node.id}." in name:
                if "conv" in name and not name.startswith("cell.0."):  # the first cell reads the stem
                    carried[name] = relisted(carried[name], 1)
                if output.op == "add" and node.id in output.inputs and carried[name].ndim:
                    carried[name] = relisted(carried[name], 0)
    carried["head.linear.weight"] = relisted(weights["head.linear.weight"], 1)
    return carried


class TestNASBench101(CellContract):
    def make(self) -> NASBench101Space:
        return NASBench101Space((3, 8, 8), width=12, stacks=2, cells=1)


class TestNASBench101OnOddImages(CellContract):
    """Channels that cannot be divided, so that values are truncated; sides that pooling does not divide."""

    even = False

    def make(self) -> NASBench101Space:
        return NASBench101Space((1, 5, 7), classes=3, vertices=6, edges=11, width=7, cells=1)


class TestNASBench101OfFourVertices(CellContract):
    """Small enough for neighbours to reach all of it."""

    def make(self) -> NASBench101Space:
        return NASBench101Space((2, 4, 4), vertices=4, edges=5, width=2, stacks=1, cells=2)


# --- published rows --------------------------------------------------------------------------------

ROWS = [
    # the inception-like cell of the official notebook, as its query prints it
    (
        [CONV3, CONV1, POOL, CONV3, CONV3],
        ("111100", "00001", "0001", "001", "10", "1"),
        2_694_282,
    ),
    # the first row of the table, 00005c142e6f48ac74fdcf73e3439874 (nni's documentation, among others)
    ([CONV3, POOL, CONV3, CONV3, CONV1], ("100110", "10000", "1001", "010", "10", "1"), 8_555_530),
    # quoted in a public script that encodes the table
    ([POOL, CONV3, POOL, CONV1, POOL], ("101000", "10110", "0001", "100", "10", "1"), 3_468_426),
]


@pytest.mark.parametrize(("ops", "rows", "params"), ROWS)
def test_published_rows(ops: list[str], rows: tuple[str, ...], params: int) -> None:
    """Trainable parameters, and the order in which the table lists the vertices."""
    space = NASBench101Space()
    arch = space.from_columns(columns_of(*rows), tuple(ops))
    assert space.cost(arch).params == params
    assert space.canonical(arch) == arch


def test_the_inception_like_cell_is_found_in_the_table_however_it_is_listed() -> None:
    """The matrix that the official notebook asks for, and the row that it gets."""
    space = NASBench101Space()
    matrix = [
        [0, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    arch = space.from_matrix(matrix, ["input", CONV1, CONV3, CONV3, CONV3, POOL, "output"])
    row_matrix, row_ops = space.matrix(space.canonical(arch))
    assert row_matrix.tolist() == [
        [0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert row_ops == ["input", CONV3, CONV1, POOL, CONV3, CONV3, "output"]
    assert space.cost(arch).params == 2_694_282


@pytest.mark.parametrize(
    ("code", "params"),
    [("10000/1001/101/11/1:2222", 227_274), ("111100/10000/0100/010/10/1:00000", 49_979_274)],
)
def test_the_smallest_and_the_largest_network_of_the_table(code: str, params: int) -> None:
    """Four pools in a row, each of which leads to the output; five 3x3 convolutions, four of which read the
    input. That none is smaller or larger is a check of scripts/bench_isomorphism.py."""
    space = NASBench101Space()
    assert space.cost(space.decode(code)).params == params


def test_published_hash() -> None:
    space = NASBench101Space()
    ops, rows, _ = ROWS[1]
    arch = space.from_columns(columns_of(*rows), tuple(ops))
    assert space.module_hash(arch) == "00005c142e6f48ac74fdcf73e3439874"


@pytest.mark.parametrize(
    ("rows", "width", "channels"),
    [
        (("100", "10", "1"), 8, [8, 8]),
        (("100", "10", "1"), 16, [16, 16]),
        (("1100", "010", "10", "1"), 8, [8, 8, 8]),
        (("110", "01", "1"), 8, [4, 4]),
        (("110", "01", "1"), 15, [8, 7]),
        (("1110", "001", "01", "1"), 8, [3, 3, 2]),
        (("1110", "001", "01", "1"), 15, [5, 5, 5]),
        (("1000", "110", "01", "1"), 8, [4, 4, 4]),
        (("1000", "110", "01", "1"), 9, [5, 5, 4]),
        (("1010", "101", "10", "1"), 8, [4, 4, 4]),
        (("1010", "101", "10", "1"), 15, [8, 7, 7]),
        (("1",), 5, []),
    ],
)
def test_channels_are_those_of_the_published_unit_tests(
    rows: tuple[str, ...], width: int, channels: list[int]
) -> None:
    """nasbench/tests/model_builder_test.py; the input's channels are not the cell's to say."""
    assert vertex_channels(columns_of(*rows), width) == [0, *channels, width]


def test_layers_of_a_cell_by_hand() -> None:
    """input -> a, b, output; a -> b, c; b -> c, output; c -> output. Of 5 channels b has 3, c 2, a 3."""
    space = NASBench101Space((3, 4, 4), classes=2, width=5, stacks=1, cells=1)
    arch = space.decode("1101/110/11/1:010")
    model = space.build(arch)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.ndim == 4}
    a, b, c = (node.id for node in arch.graph("cell") if node.op in OPS)
    projections = [node.id for node in arch.graph("cell") if node.op == "projection"]
    assert shapes == {
        "stem.block.conv.weight": (5, 3, 3, 3),
        f"cell.0.n{projections[0]}.block.conv.weight": (3, 5, 1, 1),
        f"cell.0.n{a}.block.conv.weight": (3, 3, 3, 3),
        f"cell.0.n{projections[1]}.block.conv.weight": (3, 5, 1, 1),
        f"cell.0.n{b}.block.conv.weight": (3, 3, 1, 1),
        f"cell.0.n{c}.block.conv.weight": (2, 2, 3, 3),
        f"cell.0.n{projections[2]}.block.conv.weight": (5, 5, 1, 1),
    }
    x = torch.randn(2, 3, 4, 4)
    model.eval()
    cell = model.get_submodule("cell.0")

    def run(node: int, x: torch.Tensor) -> torch.Tensor:
        block = cell.get_submodule(f"n{node}.block")
        return torch.relu(block.bn(block.conv(x)))

    stem = model.get_submodule("stem.block")
    h = torch.relu(stem.bn(stem.conv(x)))
    at_a = run(a, run(projections[0], h))
    at_b = run(b, at_a + run(projections[1], h))
    at_c = run(c, at_a[:, :2] + at_b[:, :2])
    out = torch.cat([at_b, at_c], dim=1) + run(projections[2], h)
    logits = model.get_submodule("head.linear")(out.mean((2, 3)))
    torch.testing.assert_close(model(x), logits)


def test_three_stacks_of_three_cells() -> None:
    """Parameters of input -> 3x3 -> output by hand: a projection and a 3x3 convolution in each of 9 cells."""
    total = 27 * 128 + 2 * 128
    width_in = 128
    for width in (128, 256, 512):
        for _ in range(3):
            total += width_in * width + 2 * width + 9 * width * width + 2 * width
            width_in = width
    space = NASBench101Space()
    arch = space.decode("10/1:0")
    assert space.cost(arch).params == total + 513 * 10
    names = {name.split(".")[0] for name, _ in space.build(arch).named_modules() if name}
    assert names == {"stem", "cell", "downsample", "head"}


# --- keys and isomorphism --------------------------------------------------------------------------


def all_listings(space: NASBench101Space) -> Iterator[Architecture]:
    """Every written form, found with networkx, in the order of the published generator."""
    for size in range(2, space.vertices + 1):
        pairs = [(u, v) for v in range(size) for u in range(v)]
        for number in range(2 ** len(pairs)):
            chosen = [pair for i, pair in enumerate(pairs) if number >> i & 1]
            view = nx.DiGraph(chosen)
            view.add_nodes_from(range(size))
            alive = (nx.descendants(view, 0) | {0}) & (nx.ancestors(view, size - 1) | {size - 1})
            if len(chosen) <= space.edges and len(alive) == size:
                matrix = nx.to_numpy_array(view, range(size), dtype=int)
                for ops in product(OPS, repeat=size - 2):
                    yield space.from_matrix(matrix, [ENDS[0], *ops, ENDS[1]])


def view_of(space: NASBench101Space, arch: Architecture) -> nx.DiGraph:
    matrix, ops = space.matrix(arch)
    view = nx.from_numpy_array(matrix, create_using=nx.DiGraph)
    nx.set_node_attributes(view, dict(enumerate(ops)), "op")
    return view


def isomorphic(a: nx.DiGraph, b: nx.DiGraph) -> bool:
    return bool(nx.is_isomorphic(a, b, node_match=lambda x, y: x == y))


def test_keys_are_equal_exactly_for_isomorphic_cells_of_up_to_5_vertices() -> None:
    space = NASBench101Space(vertices=5)
    classes: dict[str, list[nx.DiGraph]] = {}
    total = 0
    for arch in all_listings(space):
        network = space.canonical(arch)
        classes.setdefault(network.key, []).append(view_of(space, arch))
        first = len(classes[network.key]) == 1
        assert (network == arch) == first, "the canonical form is the one that the generator finds first"
        total += 1
    assert total == space.size()
    for members in classes.values():
        assert all(isomorphic(members[0], other) for other in members[1:])
    alike: dict[Any, list[nx.DiGraph]] = {}
    for members in classes.values():
        view = members[0]
        degrees = [(op, view.in_degree(v), view.out_degree(v)) for v, op in view.nodes(data="op")]
        alike.setdefault(tuple(sorted(degrees)), []).append(view)
    pairs = [pair for group in alike.values() for pair in combinations(group, 2)]
    assert len(pairs) > 100
    assert not any(isomorphic(a, b) for a, b in pairs)


def test_keys_of_cells_of_7_vertices_are_blind_to_the_listing() -> None:
    """Every topological order of the vertices gives the same canonical form and the same published hash."""
    space = NASBench101Space()
    rng = np.random.default_rng(0)
    seen = 0
    for arch in (space.sample(rng) for _ in range(150)):
        matrix, ops = space.matrix(arch)
        network = space.canonical(arch)
        orders = [(0, *middle, len(ops) - 1) for middle in permutations(range(1, len(ops) - 1))]
        for order in orders:
            listed = matrix[np.ix_(order, order)]
            if not np.tril(listed).any():
                other = space.from_matrix(listed, [ops[v] for v in order])
                assert space.canonical(other).key == network.key
                assert space.code(space.canonical(other)) == space.code(network)
                assert space.module_hash(other) == space.module_hash(arch)
                seen += 1
    assert seen > 200


def test_cells_that_look_alike_are_told_apart() -> None:
    """Two chains of two: 3x3 leads to 3x3 and 1x1 to 1x1, or each to the other."""
    space = NASBench101Space()
    straight = space.decode("11000/0100/010/01/1:0101")
    crossed = space.decode("11000/0010/100/01/1:0101")
    assert space.canonical(straight).key != space.canonical(crossed).key
    assert space.module_hash(straight) != space.module_hash(crossed)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    script = Path(__file__).parents[1] / "scripts" / "bench_isomorphism.py"
    spec = importlib.util.spec_from_file_location("bench_isomorphism", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_counts(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_isomorphism", "--vertices", "4"])
    assert bench.main() == 0
    assert "97 listings, 91 networks, 91 published hashes" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["bench_isomorphism", "--vertices", "5", "--seconds", "0"])
    assert bench.main() == 2
    assert "stopped after 1000 of 3364 listings" in capsys.readouterr().out
    monkeypatch.setitem(bench.NETWORKS, 3, 8)
    monkeypatch.setattr(sys, "argv", ["bench_isomorphism", "--vertices", "3"])
    assert bench.main() == 1


@pytest.mark.slow
def test_there_are_423624_networks(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_isomorphism", "--seconds", "3600"])
    assert bench.main() == 0


def test_pruning_and_listing_of_random_graphs() -> None:
    """Against networkx, on larger graphs than cells are."""
    rng = np.random.default_rng(0)
    no_path = 0
    for _ in range(300):
        size = int(rng.integers(2, 9))
        columns = (0, *(int(rng.integers(1 << v)) & int(rng.integers(1 << v)) for v in range(1, size)))
        view = nx.DiGraph([(u, v) for v in range(size) for u in range(v) if columns[v] >> u & 1])
        view.add_nodes_from(range(size))
        assert dag.edges(columns) == view.number_of_edges()
        assert dag.rows(columns) == [sum(1 << v for v in view.successors(u)) for u in range(size)]
        alive = (nx.descendants(view, 0) | {0}) & (nx.ancestors(view, size - 1) | {size - 1})
        joined = nx.has_path(view, 0, size - 1)
        assert dag.pruned(columns) == (sorted(alive) if joined else [])
        no_path += not joined
    assert 10 < no_path < 290


# --- sampling and changes --------------------------------------------------------------------------


def test_the_law_of_samples() -> None:
    """All 2^6 x 9 matrices and ops of 4 vertices, pruned by networkx, with up to 4 edges, equally often."""
    space = NASBench101Space(vertices=4, edges=4)
    law: Counter[str] = Counter()
    for bits in product((0, 1), repeat=6):
        matrix = np.zeros((4, 4), dtype=int)
        matrix[np.triu_indices(4, 1)] = bits
        view = nx.from_numpy_array(matrix, create_using=nx.DiGraph)
        if nx.has_path(view, 0, 3):
            alive = sorted((nx.descendants(view, 0) | {0}) & (nx.ancestors(view, 3) | {3}))
            if view.subgraph(alive).number_of_edges() <= 4:
                for ops in product(OPS, repeat=2):
                    names = [ENDS[0], *ops, ENDS[1]]
                    kept = matrix[np.ix_(alive, alive)]
                    law[space.code(space.from_matrix(kept, [names[v] for v in alive]))] += 1
    rng = np.random.default_rng(0)
    drawn = Counter(space.code(space.sample(rng)) for _ in range(20_000))
    assert set(drawn) <= set(law)
    expected = np.array([law[code] for code in law]) * 20_000 / law.total()
    assert stats.chisquare([drawn[code] for code in law], expected).pvalue > 0.001
    assert len(law) == space.size()


def test_the_law_of_mutations_by_hand() -> None:
    """input -> 3x3 -> output, at most 4 vertices: each kind equally often, of 1 edge to flip, 2 other ops,
    4 x 3 places and ops of a new vertex, 1 vertex to remove."""
    space = NASBench101Space(vertices=4)
    law: Counter[str] = Counter({"11/1:0": 48, "10/1:1": 24, "10/1:2": 24, "1:": 48})
    for op in "012":  # 48ths of a fourth
        law[f"100/10/1:{op}0"] += 4
        law[f"100/10/1:0{op}"] += 4
        law[f"110/01/1:{op}0"] += 4
        law[f"110/01/1:0{op}"] += 4
    assert law.total() == 4 * 48
    arch = space.decode("10/1:0")
    assert Counter(space.code(other) for other in space.neighbors(arch)).keys() == law.keys()
    rng = np.random.default_rng(0)
    drawn = Counter(space.code(space.mutate(arch, rng)) for _ in range(9600))
    assert set(drawn) == set(law)
    assert stats.chisquare([drawn[code] for code in law], [50 * law[code] for code in law]).pvalue > 0.001


def test_kinds_that_cannot_be_are_left_out() -> None:
    """No vertex may be added; of the edges only input -> output can be flipped."""
    space = NASBench101Space(vertices=3)
    arch = space.decode("10/1:0")
    rng = np.random.default_rng(0)
    drawn = Counter(space.code(space.mutate(arch, rng)) for _ in range(3000))
    law = {"11/1:0": 1000, "10/1:1": 500, "10/1:2": 500, "1:": 1000}
    assert set(drawn) == set(law)
    assert stats.chisquare([drawn[code] for code in law], list(law.values())).pvalue > 0.001


def test_a_space_of_one_cell_has_nothing_to_change() -> None:
    space = NASBench101Space(vertices=2)
    arch = space.sample(np.random.default_rng(0))
    assert space.code(arch) == "1:"
    assert space.size() == 1
    assert space.neighbors(arch) == []
    with pytest.raises(NothingToChange, match="one architecture only"):
        space.mutate(arch, np.random.default_rng(0))
    assert space.crossover(arch, arch, np.random.default_rng(0)) == arch


def test_draws_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 10 vertices hardly a draw has one edge only on its paths."""
    space = NASBench101Space(vertices=10, edges=1)
    monkeypatch.setattr(module, "TRIES", 3)
    with pytest.raises(RuntimeError, match="of 3 cells drawn none has a path and at most 1 edges"):
        for seed in range(20):
            space.sample(np.random.default_rng(seed))


def test_an_edge_that_goes_takes_along_what_it_alone_kept_alive() -> None:
    """input -> a -> b -> output beside input -> c -> output: without a -> b only c is left."""
    space = NASBench101Space()
    arch = space.decode("1010/100/01/1:012")
    c = next(node.id for node in arch.graph("cell") if node.op == POOL)
    (left,) = [other for other in space.neighbors(arch) if space.code(other) == "10/1:2"]
    assert [node.id for node in left.graph("cell") if node.op in OPS] == [c]


def test_a_new_vertex_takes_the_place_of_the_edge_and_the_others_keep_their_ids() -> None:
    space = NASBench101Space()
    arch = space.decode("10/1:0")
    longer = [other for other in space.neighbors(arch) if space.code(other) == "100/10/1:20"]
    (other,) = longer
    before, after = nodes(arch), nodes(other)
    conv = next(node.id for node in arch.graph("cell") if node.op == CONV3)
    assert after["cell", conv] == before["cell", conv]
    new = after.keys() - before.keys()
    assert POOL in {after[node][0] for node in new}
    back = [o for o in space.neighbors(other) if space.code(o) == "10/1:0"]
    assert any(conv in {node.id for node in o.graph("cell")} for o in back)


def test_the_law_of_crossover() -> None:
    """Two cells of 4 vertices: both vertices and the output from either parent, all 8 equally often."""
    space = NASBench101Space(vertices=4)
    a, b = space.decode("111/11/1:00"), space.decode("100/10/1:22")
    rng = np.random.default_rng(0)
    children = [space.crossover(a, b, rng) for _ in range(4000)]
    drawn = Counter(space.code(child) for child in children)
    law = set()
    for first, (ops, middle), end in product("02", (("0", "11"), ("2", "01")), ("111", "001")):
        law.add(f"1{middle[0]}{end[0]}/{middle[1]}{end[1]}/{end[2]}:{first}{ops}")
    assert set(drawn) == law
    assert len(law) == 8
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001
    ids_of_a = {node.id for node in a.graph("cell")}
    for child in children[:50]:
        for node in child.graph("cell"):
            assert (node.id in ids_of_a) == (nodes(child)["cell", node.id] == nodes(a).get(("cell", node.id)))
            assert node.op != POOL or node.id not in ids_of_a


# --- forms -----------------------------------------------------------------------------------------


def test_codes_and_matrices_round_trip() -> None:
    space = NASBench101Space()
    rng = np.random.default_rng(0)
    for arch in (space.sample(rng) for _ in range(200)):
        assert space.decode(space.code(arch)) == arch
        assert space.from_matrix(*space.matrix(arch)) == arch


def test_what_is_on_no_path_is_pruned() -> None:
    """A vertex that reads nothing, one that nothing reads, and many of either."""
    space = NASBench101Space()
    assert space.code(space.decode("101/01/1:01")) == "11/1:0"
    assert space.code(space.decode("001/11/1:01")) == "1:"
    assert space.code(space.decode("110/00/1:01")) == "10/1:1"
    assert space.code(space.decode("100000/00001/1111/111/11/1:21111")) == "10/1:2"


def test_the_graph_of_a_cell() -> None:
    """input -> a -> output, input -> b -> output, a -> b, input -> output."""
    space = NASBench101Space()
    arch = space.decode("111/11/1:02")
    ops = {node.id: (node.op, node.inputs) for node in arch.graph("cell")}
    assert list(ops.values()) == [
        ("input", ()),
        ("projection", (0,)),
        (CONV3, (1,)),
        ("projection", (0,)),
        ("add", (3, 4)),
        (POOL, (5,)),
        ("concat", (3, 6)),
        ("projection", (0,)),
        ("add", (17, 16)),
    ]
    alone = space.decode("1:").graph("cell")
    assert [node.op for node in alone] == ["input", "projection"]


@pytest.mark.parametrize(
    "text",
    ["", "1", ":", "10/1", "10/1:", "10/1:3", "10/1:00", "10/1:٣", "1/10:0", "10/2:0", "1x/1:0", "10/1/:0", "10/1:0 "],
)  # fmt: skip
def test_what_is_no_code_is_refused(text: str) -> None:
    with pytest.raises(InvalidArchitecture, match="a code must be the rows of an upper triangle"):
        NASBench101Space().decode(text)


@pytest.mark.parametrize(
    ("matrix", "ops", "message"),
    [
        ([[0, 1]], ["input"], r"square, at least 2 x 2, but got \(1, 2\)"),
        ([[0]], ["input"], "at least 2 x 2"),
        ([[0, 1], [0]], ["input", "output"], "a matrix must be square, but"),
        ([[0, 2], [0, 0]], ["input", "output"], "of 0 and 1, but got"),
        ([[0, 1], [1, 0]], ["input", "output"], "upper triangular"),
        ([[1, 1], [0, 0]], ["input", "output"], "upper triangular"),
        ([["0", "1"], ["0", "0"]], ["input", "output"], "of 0 and 1"),
        ([[0, 1], [0, 0]], ["input", CONV3, "output"], "ops must be 'input', 0 of"),
        ([[0, 1], [0, 0]], ["output", "input"], "ops must be 'input'"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["input", "conv", "output"], "'output', but got .*'conv'"),
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], ["input", CONV3, "output"], "there must be a path from the input"),
        (np.triu(np.ones((5, 5)), 1), ["input", *[POOL] * 3, "output"], "and 9 edges, but got 5 and 10"),
        (np.eye(8, k=1), ["input", *[POOL] * 6, "output"], "at most 7 vertices and 9 edges, but got 8 and 7"),
    ],
)  # fmt: skip
def test_a_matrix_that_is_no_cell_is_refused(matrix: Any, ops: list[str], message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        NASBench101Space().from_matrix(matrix, ops)


IN = Node(0, "input")
PROJECTED = Node(1, "projection", (0,))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ((IN,), r"node 0 \(input\): a cell of these edges has 2 nodes, but got 1"),
        ((Node(0, POOL), PROJECTED), r"node 0 \(maxpool3x3\): a cell has 'input' here"),
        ((IN, Node(1, POOL, (0,))), r"node 1 \(maxpool3x3\): a cell has 'projection' here, with"),
        ((IN, Node(1, POOL)), r"node 1 \(maxpool3x3\): it must read another node"),
        ((IN, PROJECTED, Node(2, POOL, (1,)), Node(3, POOL, (1,))), r"node 3 \(maxpool3x3\): a cell has"),
        ((IN, PROJECTED, Node(2, POOL, (1,)), Node(3, "projection", (0,)), Node(4, POOL, (3,))),
         r"node 2 \(maxpool3x3\): it must be read on the way to the output"),
        ((IN, PROJECTED, Node(2, "add", (1, 1)), Node(3, POOL, (2,))), r"node 2 \(add\): a cell has 'maxpool3x3'"),
        ((IN, PROJECTED, Node(2, POOL, (1,)), Node(3, "concat", (2, 2))),
         r"node 3 \(concat\): a cell of these edges has 3 nodes, but got 4"),
        ((IN, PROJECTED, Node(2, POOL, (1,)), Node(3, POOL, (2,)), Node(4, "concat", (3, 2))),
         r"node 4 \(concat\): a cell has 'concat' here, with inputs \(2, 3\) .* but got \(3, 2\)"),
        ((IN, PROJECTED, Node(2, POOL, (1,)), Node(3, "projection", (0,)), Node(4, "add", (3, 2))),
         r"node 4 \(add\): a cell has 'add' here, with inputs \(2, 3\) .* but got \(3, 2\)"),
        ((IN, Node(1, "projection", (0,), (("k", 1),))), r"node 1 \(projection\): .* parameters \{\}, but .*'k': 1"),
        ((IN, PROJECTED, Node(2, "conv", (1,))), r"node 2: op must be one of \['add', .*, but got 'conv'"),
        ((IN, Node(1, "input"), Node(2, "projection", (0,))), r"node 1: op must be one of"),
    ],
)  # fmt: skip
def test_a_graph_that_is_no_cell_names_node_and_rule(written: tuple[Node, ...], message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        NASBench101Space().check(Architecture("nasbench101", (("cell", Graph(written)),)))


def test_a_cell_of_another_size_is_refused() -> None:
    chain = NASBench101Space().decode("100000/10000/1000/100/10/1:00000")
    with pytest.raises(InvalidArchitecture, match="at most 6 vertices and 9 edges, but got 7 and 6"):
        NASBench101Space(vertices=6).check(chain)
    with pytest.raises(InvalidArchitecture, match="at most 7 vertices and 5 edges, but got 7 and 6"):
        NASBench101Space(edges=5).cost(chain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (3, 3, 32)}, "the sides of input_shape must be at least 4, but got"),
        ({"input_shape": (3, 32)}, "input_shape must be"),
        ({"vertices": 1}, "`2 <= vertices <= 10 and edges >= 1` must hold, but got vertices=1, edges=9"),
        ({"vertices": 11}, "vertices=11"),
        ({"vertices": 7.0}, "vertices=7.0"),
        ({"edges": 0}, "edges=0"),
        ({"edges": True}, "edges=True"),
        ({"width": 4}, "`width >= vertices - 2` must hold, but got width=4, vertices=7"),
        ({"width": 0}, "must be positive integers, but got width=0"),
        ({"stacks": 0}, "stacks=0"),
        ({"cells": 1.5}, "cells=1.5"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NASBench101Space(**arguments)
