"""Encodings of cells, by hand and against a slow list of all paths."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest

from nas.architecture import Graph, InvalidArchitecture, Node
from search_spaces import encodings
from search_spaces.nasbench101 import OPS, NASBench101Space
from search_spaces.nasbench201 import OPS as OPS_201
from search_spaces.nasbench201 import NASBench201Space


@pytest.fixture(scope="module")
def space() -> NASBench101Space:
    return NASBench101Space()


def indices(encoding: np.ndarray) -> list[int]:
    assert set(encoding.tolist()) <= {0.0, 1.0}
    return np.flatnonzero(encoding).tolist()


# --- adjacency -------------------------------------------------------------------------------------


def test_adjacency_of_a_cell_by_hand() -> None:
    """input -> 3x3 -> pool -> output, and input -> output; one vertex fewer than there may be."""
    space = NASBench101Space(vertices=5)
    arch = space.decode("101/10/1:02")
    rows = [[1, 0, 0, 1], [1, 0, 0], [0, 1], [0]]  # the output is the fifth vertex, the fourth is missing
    ops = [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert space.encode(arch).tolist() == [*np.concatenate(rows), *np.ravel(ops)]


def test_adjacency_has_21_edges_and_5_ops_of_3(space: NASBench101Space) -> None:
    encoded = space.encode(space.decode("111010/00001/0001/100/01/1:10002"))
    assert "".join(str(int(bit)) for bit in encoded[:21]) == "111010000010001100011"
    assert encoded[21:].reshape(5, 3).argmax(1).tolist() == [1, 0, 0, 0, 2]
    assert encoded.shape == (36,)


def test_adjacency_gives_the_matrix_back(space: NASBench101Space) -> None:
    rng = np.random.default_rng(0)
    for arch in (space.sample(rng) for _ in range(100)):
        matrix, ops = space.matrix(arch)
        if len(ops) == 7:
            encoded = space.encode(arch)
            np.testing.assert_array_equal(encoded[:21], matrix[np.triu_indices(7, 1)])
            assert [OPS[i] for i in encoded[21:].reshape(5, 3).argmax(1)] == ops[1:-1]


def test_a_cell_of_too_many_steps_is_refused() -> None:
    graph = Graph((Node(0, "input"), Node(1, "a", (0,)), Node(2, "a", (1,))))
    assert encodings.adjacency(graph, ("a",), 4).tolist() == [1, 0, 0, 1, 0, 1, 1, 1]
    with pytest.raises(ValueError, match="at most 1 steps, but got more"):
        encodings.adjacency(graph, ("a",), 3)


# --- paths -----------------------------------------------------------------------------------------


def test_path_indices_by_hand(space: NASBench101Space) -> None:
    """364 = 1 + 3 + 9 + 27 + 81 + 243 paths; the index is the sum of 3^i (op + 1) (White et al. 2021)."""
    encode = space.encodings()["path"]
    assert encode(space.decode("1:")).shape == (364,)
    assert indices(encode(space.decode("1:"))) == [0]
    assert [indices(encode(space.decode(f"10/1:{op}"))) for op in "012"] == [[1], [2], [3]]
    assert indices(encode(space.decode("11/1:1"))) == [0, 2]
    assert indices(encode(space.decode("100/10/1:00"))) == [4]
    assert indices(encode(space.decode("100/10/1:20"))) == [3 + 3 * 1]
    assert indices(encode(space.decode("100/10/1:02"))) == [1 + 3 * 3]
    assert indices(encode(space.decode("100/10/1:22"))) == [12]
    longest = "100000/10000/1000/100/10/1:"
    assert indices(encode(space.decode(longest + "22222"))) == [363]
    assert indices(encode(space.decode(longest + "00000"))) == [1 + 3 + 9 + 27 + 81]


def test_paths_of_the_inception_like_cell(space: NASBench101Space) -> None:
    """1x1; 3x3; 3x3 then 3x3; pool: four paths."""
    arch = space.decode("111010/00001/0001/100/01/1:10002")
    assert indices(space.encodings()["path"](arch)) == [1, 2, 3, 4]


def slow_paths(space: NASBench101Space, arch: object) -> set[int]:
    matrix, ops = space.matrix(arch)  # type: ignore[arg-type]
    view = nx.from_numpy_array(matrix, create_using=nx.DiGraph)
    found = set()
    for path in nx.all_simple_edge_paths(view, 0, len(ops) - 1):
        digits = [OPS.index(ops[target]) + 1 for _, target in path[:-1]]
        found.add(sum(digit * 3**i for i, digit in enumerate(digits)))
    return found


def test_paths_equal_a_slow_list_and_are_blind_to_the_order_of_vertices(space: NASBench101Space) -> None:
    rng = np.random.default_rng(1)
    encode = space.encodings()["path"]
    relisted = 0
    for arch in (space.sample(rng) for _ in range(300)):
        assert set(indices(encode(arch))) == slow_paths(space, arch)
        network = space.canonical(arch)
        relisted += network != arch
        np.testing.assert_array_equal(encode(network), encode(arch))
    assert relisted > 20


def test_steps_are_edges_in_nasbench201_and_none_cuts() -> None:
    """Paths 0>3, 0>1>3, 0>2>3, 0>1>2>3 over skip, 1x1, 3x3 and pool; an edge `none` is on no path."""
    space = NASBench201Space()

    def encode(text: str) -> list[int]:
        graph = space.decode(text).graph("cell")
        encoding = encodings.paths(graph, OPS_201[1:], 3, zeros=OPS_201[:1])
        assert encoding.shape == (1 + 4 + 16 + 64,)
        return indices(encoding)

    assert encode("000000") == []
    assert encode("000300") == [3]  # 0>3 is 3x3
    assert encode("100040") == [1 + 4 * 4]  # skip, then pool
    assert encode("010002") == [1 + 4 * 2]  # skip, then 1x1
    assert encode("102003") == [1 + 4 * 2 + 16 * 3]
    assert encode("333133") == [1, 3 + 4 * 3, 3 + 4 * 3 + 16 * 3]


def test_a_path_that_is_too_long_is_refused() -> None:
    nodes = [Node(0, "input"), *(Node(i + 1, "a", (i,)) for i in range(3))]
    chain = Graph(tuple(nodes))
    assert indices(encodings.paths(chain, ("a", "b"), 3)) == [1 + 2 + 4]
    with pytest.raises(ValueError, match="at most 2 steps, but got one of 3"):
        encodings.paths(chain, ("a", "b"), 2)


def test_several_inputs_start_paths() -> None:
    graph = Graph(
        (
            Node(0, "input"),
            Node(1, "input"),
            Node(2, "b", (1,)),
            Node(3, "concat", (0, 2)),
            Node(4, "a", (3,)),
        )
    )
    assert indices(encodings.paths(graph, ("a", "b"), 2)) == [1, 2 + 2 * 1]


# --- by name ---------------------------------------------------------------------------------------


def test_every_encoding_of_a_space_has_one_length_and_refuses_what_is_not_of_it() -> None:
    space = NASBench101Space(vertices=5)
    rng = np.random.default_rng(2)
    archs = [space.sample(rng) for _ in range(20)]
    other = NASBench101Space().decode("100000/10000/1000/100/10/1:00000")
    assert set(space.encodings()) == {"adjacency", "path"}
    for encode in space.encodings().values():
        encoded = [encode(arch) for arch in archs]
        assert all(a.shape == b.shape and a.dtype == np.float64 for a, b in pairwise(encoded))
        with pytest.raises(InvalidArchitecture, match="at most 5 vertices"):
            encode(other)
    np.testing.assert_array_equal(space.encodings()["adjacency"](archs[0]), space.encode(archs[0]))
