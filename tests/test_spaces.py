# ruff: noqa: E501
"""Every space of the package passes the same contract; and what each has of its own."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from spaces_contract import SpaceContract, slow_peak_bytes

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from nas.protocols import NothingToChange
from search_spaces.chain import ChainSpace
from search_spaces.fragments import Builder
from search_spaces.graph_space import GraphSpace, Site
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.nasbench_macro import NASBenchMacroSpace
from search_spaces.operations import BLOCKS, CLASSIFIER, JOINS
from search_spaces.plan import Placed, plan_cost


class TestChain(SpaceContract):
    def make(self) -> ChainSpace:
        return ChainSpace()


class TestChainOnOddColourImages(SpaceContract):
    """Sides that strides do not divide, more strides, wider choices, no head."""

    def make(self) -> ChainSpace:
        return ChainSpace(
            (3, 13, 17),
            classes=2,
            depth=(1, 7),
            kernels=(1, 3, 7),
            widths=(5, 16),
            expands=(1, 3),
            strides=3,
            head=0,
        )


class TestChainOfOneOp(SpaceContract):
    def make(self) -> ChainSpace:
        return ChainSpace((1, 8, 8), depth=(3, 4), ops=("conv",), kernels=(3,), widths=(8, 12), stem=8)


class TestChainOfIdentities(SpaceContract):
    """Canonical forms are much smaller than written ones here."""

    def make(self) -> ChainSpace:
        return ChainSpace((2, 6, 6), depth=(2, 6), ops=("identity",), widths=(8, 16), strides=1)


class TestChainWithoutSkips(SpaceContract):
    def make(self) -> ChainSpace:
        return ChainSpace((3, 4, 4), depth=(1, 3), skips=False, strides=0, widths=(4, 8), stem=4)


class TestChainWithGatedSkips(SpaceContract):
    def make(self) -> ChainSpace:
        return ChainSpace((2, 6, 6), depth=(2, 5), widths=(8,), stem=8, strides=1, gated=True)


class TestMacro(SpaceContract):
    def make(self) -> NASBenchMacroSpace:
        return NASBenchMacroSpace((3, 16, 16))


class TestChainOfSeries(SpaceContract):
    def make(self) -> ChainSpace:
        return ChainSpace((3, 19), classes=4, depth=(1, 4), kernels=(3, 9), widths=(4, 8), stem=4)


class TestNASBench201(SpaceContract):
    constants_are_dropped = True

    def make(self) -> NASBench201Space:
        return NASBench201Space((3, 16, 16), cells=2, width=4)


class TestNASBench201OnOddImages(SpaceContract):
    constants_are_dropped = True

    def make(self) -> NASBench201Space:
        return NASBench201Space((1, 7, 10), classes=3, cells=1, width=8)


class TestMacroOnOddImages(SpaceContract):
    def make(self) -> NASBenchMacroSpace:
        return NASBenchMacroSpace((1, 9, 12), classes=3)


# --- constructor arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"input_shape": (8,)},
            r"input_shape must be \(channels, length\) or \(channels, height, width\).*\(8,\)",
        ),
        ({"input_shape": (1, 0, 8)}, "input_shape must be"),
        ({"input_shape": (1, 8.0, 8)}, "input_shape must be"),
        ({"classes": 1}, "`classes >= 2` must hold, but got classes=1"),
        ({"depth": (3, 2)}, r"`1 <= smallest depth <= largest depth` must hold, but got depth=\(3, 2\)"),
        ({"depth": (0, 2)}, "smallest depth"),
        ({"depth": (2,)}, "smallest depth"),
        ({"depth": (2.0, 3)}, "must be integers"),
        ({"ops": ()}, "ops must be"),
        ({"ops": ("conv", "pool")}, r"ops must be different ones of \['conv', .* but got \['conv', 'pool'\]"),
        ({"ops": ("conv", "conv")}, "ops must be different"),
        ({"kernels": (2,)}, r"kernels must be odd, but got \[2\]"),
        ({"kernels": (3, 3)}, "kernels must be different positive integers"),
        ({"widths": ()}, "widths must be different positive integers, but got"),
        ({"widths": (8, -8)}, "widths must be"),
        ({"expands": (1.5,)}, "expands must be"),
        ({"strides": 4}, r"`2\^strides <= 8` .* must hold, but got strides=4"),
        ({"strides": -1}, "`0 <= strides"),
        ({"strides": True}, "must be integers"),
        ({"stem": 0}, "`stem >= 1"),
        ({"head": -1}, "head >= 0"),
    ],
)
def test_senseless_chain_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChainSpace(**arguments)


@pytest.mark.parametrize("shape", [(3, 7, 32), (3, 4, 4), (3, 32), (0, 32, 32)])
def test_macro_images_must_have_room_for_three_strides(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="input_shape"):
        NASBenchMacroSpace(shape)


# --- what cannot be ----------------------------------------------------------------------------------


def chain(*nodes: Node, space: str = "chain") -> Architecture:
    return Architecture(space, (("net", Graph(nodes)),))


def conv(node_id: int, source: int, **changed: Any) -> Node:
    params = {"kernel": 3, "stride": 1, "width": 16} | changed
    return Node(node_id, "conv", (source,), tuple(params.items()))


IN = Node(0, "input")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((conv(1, 0), IN), None),
        ((Node(0, "conv"), Node(1, "conv", (0,))), r"node 0 \(conv\): the first node must be the input"),
        ((Node(0, "input", (), (("k", 1),)), conv(1, 0), conv(2, 1)), r"node 0 \(input\): the first node must be"),
        ((IN, conv(1, 0)), "a chain must have 2 to 6 blocks, but got 1"),
        ((IN, conv(1, 0), conv(2, 0)), r"node 2 \(conv\): a block must read node 1, but got \(0,\)"),
        ((IN, conv(1, 0), conv(2, 1, kernel=7)), r"node 2 \(conv\): kernel must be one of \(3, 5\), but got 7"),
        ((IN, conv(1, 0), conv(2, 1, stride=3)), r"node 2 \(conv\): stride must be one of \(1, 2\), but got 3"),
        ((IN, conv(1, 0), conv(2, 1, kernel=True)), "kernel must be one of"),
        ((IN, conv(1, 0), conv(2, 1, expand=2)), r"node 2 \(conv\): its parameters must be"),
        ((IN, conv(1, 0), Node(2, "pool", (1,))), "node 2: a block must be one of conv, .* but got 'pool'"),
        ((IN, *(conv(i, i - 1, stride=2) for i in (1, 2, 3))), "at most 2 blocks must have stride 2"),
        ((IN, conv(1, 0, width=8), Node(2, "add", (1, 0)), conv(3, 2)),
         r"node 2 \(add\): added shapes must be equal, but got \[\(8, 8, 8\), \(16, 8, 8\)\]"),
        ((IN, conv(1, 0), Node(2, "add", (1, 0, 0)), conv(3, 2)), r"node 2 \(add\): a skip must follow a block"),
        ((IN, conv(1, 0), Node(2, "add", (0, 1)), conv(3, 2)), r"node 2 \(add\): a skip must follow a block"),
        ((IN, conv(1, 0), Node(2, "add", (1, 1)), conv(3, 2)), r"node 2 \(add\): a skip must read the end"),
        ((IN, conv(1, 0), Node(2, "add", (1, 0)), Node(3, "add", (2, 0))), r"node 3 \(add\): a skip must follow"),
        ((IN, Node(1, "add", (0, 0)), conv(2, 1)), r"node 1 \(add\): a skip must follow a block"),
        ((IN, conv(1, 0), Node(2, "add", (1, 0), (("k", 1),)), conv(3, 2)), r"node 2 \(add\): it must have no param"),
        ((IN, conv(1, 0), Node(2, "input"), conv(3, 1)), "node 2: a block must be one of"),
    ],
)  # fmt: skip
def test_a_chain_that_breaks_a_rule_names_node_and_rule(nodes: tuple[Node, ...], message: str | None) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        ChainSpace().check(chain(*nodes))


def test_skips_and_graphs_of_another_space_are_refused() -> None:
    nodes = (IN, conv(1, 0), Node(2, "add", (1, 0)), conv(3, 2))
    ChainSpace().check(chain(*nodes))
    with pytest.raises(InvalidArchitecture, match=r"node 2 \(add\): this space has no skips"):
        ChainSpace(skips=False).check(chain(*nodes))
    with pytest.raises(InvalidArchitecture, match=r"its graphs must be \('net',\), but got \('cell',\)"):
        ChainSpace().check(Architecture("chain", (("cell", Graph(nodes)),)))
    with pytest.raises(InvalidArchitecture, match="must be of space 'chain', but it is of 'nasbench_macro'"):
        ChainSpace().check(NASBenchMacroSpace().decode("0" * 8))
    with pytest.raises(InvalidArchitecture, match="must be of space 'nasbench_macro'"):
        NASBenchMacroSpace().check(chain(*nodes))


def test_a_network_too_deep_for_its_images_names_the_node() -> None:
    deep = chain(IN, *(conv(i, i - 1, stride=2) for i in range(1, 5)))
    with pytest.raises(
        InvalidArchitecture, match=r"node 4 \(conv\): a side must be at least the stride .* too deep"
    ):
        ChainSpace().cost(deep)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node(2, "nothing", (1,)), r"node 2: op must be one of \['add', .* but got 'nothing'"),
        (Node(2, "conv", (1, 0), conv(2, 1).params), r"node 2 \(conv\): it must have 1 input\(s\), but got 2"),
        (Node(2, "add", ()), r"node 2 \(add\): it must have at least 1 inputs, but got 0"),
        (conv(2, 1, kernel=4), r"node 2 \(conv\): kernel must be odd, but got 4"),
        (conv(2, 1, width=0), r"node 2 \(conv\): parameter 'width' must be a positive integer, but got 0"),
        (conv(2, 1, width=16.0), r"node 2 \(conv\): parameter 'width' must be a positive integer, but got 16.0"),
        (conv(2, 1, kernel=True), r"node 2 \(conv\): parameter 'kernel' must be a positive integer, but got True"),
        (conv(2, 1, expand=3), r"node 2 \(conv\): its parameters must be \['kernel', 'stride', 'width'\], but got"),
        (Node(2, "conv", (1,)), r"node 2 \(conv\): its parameters must be"),
        (Node(2, "input"), r"node 2 \(input\): the graph has too many input nodes"),
    ],
)  # fmt: skip
def test_cost_names_the_node_that_cannot_be_built(node: Node, message: str) -> None:
    space = ChainSpace()
    space.cost(chain(IN, conv(1, 0, kernel=1), conv(2, 1)))  # what was seen before does not matter
    with pytest.raises(InvalidArchitecture, match=message):
        space.cost(chain(IN, conv(1, 0), node))
    with pytest.raises(InvalidArchitecture, match=message):
        space.canonical(chain(IN, conv(1, 0), node))


# --- the chain's own ---------------------------------------------------------------------------------


def test_a_space_of_one_has_nothing_to_change() -> None:
    space = ChainSpace(depth=(1, 1), ops=("conv",), kernels=(3,), widths=(8,), strides=0, skips=False)
    arch = space.sample(np.random.default_rng(0))
    assert space.neighbors(arch) == []
    with pytest.raises(NothingToChange, match="one architecture only"):
        space.mutate(arch, np.random.default_rng(0))


def test_mutations_reach_the_whole_space() -> None:
    """A small space, walked by neighbours from one member, holds everything that sampling finds."""
    space = ChainSpace((1, 4, 4), depth=(1, 2), ops=("conv", "identity"), kernels=(3,), widths=(8,), stem=8)
    rng = np.random.default_rng(0)
    sampled = {arch.key for arch in (space.sample(rng) for _ in range(3000))}
    start = space.sample(rng)
    reached, waiting = {start.key}, [start]
    while waiting:
        for other in space.neighbors(waiting.pop()):
            if other.key not in reached:
                reached.add(other.key)
                waiting.append(other)
    assert reached == sampled


def test_every_kind_of_change_happens() -> None:
    space = ChainSpace()
    rng = np.random.default_rng(0)
    kinds: Counter[str] = Counter()
    for _ in range(300):
        arch = space.sample(rng)
        child = space.mutate(arch, rng)
        kinds[f"{len(child.graph()) - len(arch.graph()):+d}"] += 1
    assert set(kinds) >= {"-2", "-1", "+0", "+1"}


def test_depths_and_blocks_are_sampled_uniformly() -> None:
    space = ChainSpace(depth=(1, 4), skips=False)
    rng = np.random.default_rng(0)
    depths: Counter[int] = Counter()
    ops: Counter[str] = Counter()
    for _ in range(2000):
        blocks = space.sample(rng).graph().nodes[1:]
        depths[len(blocks)] += 1
        ops[blocks[0].op] += 1
    assert stats.chisquare([depths[d] for d in range(1, 5)]).pvalue > 0.01
    assert len(ops) == 4
    assert stats.chisquare(list(ops.values())).pvalue > 0.01


def test_inserting_and_removing_keeps_skips_where_they_point() -> None:
    """input -> 1 -> 2 -> 3 with 3 + 1: what 3 adds is still block 1 once another block stands before it."""
    space = ChainSpace(depth=(2, 5), ops=("conv",), kernels=(3,), widths=(16,), strides=0)
    arch = chain(IN, conv(1, 0), conv(2, 1), conv(3, 2), Node(4, "add", (3, 1)))
    longer = [o for o in space.neighbors(arch) if [n.op for n in o.graph()].count("conv") == 4]
    assert longer
    kept = [other.graph().node(4).inputs for other in longer]
    assert kept.count((3, 1)) == len(kept), kept
    shorter = [o for o in space.neighbors(arch) if {n.id for n in o.graph()} == {0, 1, 3, 4}]
    assert [other.graph().node(4).inputs for other in shorter] == [(3, 1)]


def test_canonical_drops_identities_and_their_sums() -> None:
    def same(node_id: int, source: int) -> Node:
        return Node(node_id, "identity", (source,), (("stride", 1), ("width", 16)))

    space = ChainSpace()
    arch = chain(IN, same(1, 0), Node(2, "add", (1, 0)), conv(3, 2), same(4, 3), Node(5, "add", (4, 2)))
    assert space.canonical(arch) == chain(IN, Node(2, "add", (0, 0)), conv(3, 2), Node(5, "add", (3, 2)))
    plain = chain(IN, same(7, 0), conv(3, 7), same(4, 3))
    assert space.canonical(plain) == chain(IN, conv(3, 0))
    assert space.canonical(chain(IN, same(1, 0), same(2, 1))) == chain(IN)
    assert space.build(space.canonical(chain(IN, same(1, 0), same(2, 1)))) is not None


# --- plans beyond the chain ---------------------------------------------------------------------------


class AnyGraph(GraphSpace):
    """All joins and blocks, any graph: what the base class promises beyond chains."""

    name = "any"
    operations = {**BLOCKS, **JOINS}  # noqa: RUF012

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        end = self.place_graph(plan, "net", arch.graph())
        self.place(plan, "head", CLASSIFIER, end, classes=self.classes)
        return plan

    def check_form(self, arch: Architecture) -> None:
        pass

    def encode(self, arch: Architecture) -> Any:
        return np.array([float(len(arch.graph()))])

    def site(self, graph: str) -> Site:
        return Site((self.input_shape,))


def random_graph(rng: np.random.Generator) -> Architecture:
    nodes = [Node(0, "input")]
    for i in range(1, int(rng.integers(2, 9))):
        op = str(rng.choice(["add", "concat", "conv", "mbconv", "sepconv", "identity"]))
        count = int(rng.integers(1, 4)) if op in JOINS else 1
        sources = tuple(int(s) for s in rng.integers(i, size=count))
        params = {"width": 4, "kernel": 3, "stride": 1, "expand": 2}
        own = BLOCKS[op].params if op in BLOCKS else ()
        nodes.append(Node(i, op, sources, tuple((name, params[name]) for name in own)))
    return Architecture("any", (("net", Graph(tuple(nodes))),))


def valid_graphs(count: int) -> list[Architecture]:
    space, rng = AnyGraph((4, 5, 5), 3), np.random.default_rng(0)
    found: list[Architecture] = []
    while len(found) < count:
        arch = random_graph(rng)
        try:
            space.check(arch)
        except InvalidArchitecture as error:
            assert "added shapes" in str(error)
            continue
        found.append(arch)
    return found


def test_memory_and_canonical_form_of_random_graphs() -> None:
    """Dead nodes, repeated inputs, values read much later, sums of one: as the slow simulation has it."""
    import torch

    space = AnyGraph((4, 5, 5), 3)
    contracted = 0
    x = torch.randn(2, 4, 5, 5)
    for arch in valid_graphs(60):
        network = space.canonical(arch)
        contracted += len(network.graph()) < len(arch.graph())
        for form in (arch, network):
            assert space.cost(form).peak_activation_bytes == slow_peak_bytes((4, 5, 5), space.plan(form))
        assert space.canonical(network) == network
        written, clean = space.build(arch).eval(), space.build(network).eval()
        weights = written.state_dict()
        clean.load_state_dict({name: weights[name] for name in clean.state_dict()})
        torch.testing.assert_close(clean(x), written(x), rtol=0, atol=1e-5)
        model = space.build(network)
        assert space.cost(network).params == sum(p.numel() for p in model.parameters())
    assert contracted > 20


def test_peak_memory_by_hand() -> None:
    """conv 4 -> 8 channels at 5 x 5, batch norm and ReLU in place: 100 + 200 numbers of 4 bytes."""
    builder = Builder((4, 5, 5))
    builder.conv_bn_relu("block", -1, 8, 3)
    plan = [Placed("a", builder.done(), (-1,))]
    assert plan_cost((4, 5, 5), plan).peak_activation_bytes == 4 * (100 + 200)
    shared = Builder((4, 5, 5))
    shared.relu("relu", -1)
    join = Builder((4, 5, 5), (4, 5, 5))
    join.add("sum", (-1, -2))
    both = [Placed("a", shared.done(), (-1,)), Placed("b", join.done(), (0, -1))]
    assert (
        plan_cost((4, 5, 5), both).peak_activation_bytes == 4 * 300
    )  # the input is read later: no ReLU in place


@pytest.mark.parametrize(("axes", "stride", "kernel"), list(product((1, 2), (1, 2, 3), (1, 3, 5))))
def test_shapes_are_torchs(axes: int, stride: int, kernel: int) -> None:
    """Convolutions (dilated too) and pools over lengths and images, on every small side."""
    import torch

    from search_spaces.modules import Network

    for side in range(max(stride, 3), 12):
        shape = (4, *(side for _ in range(axes)))
        b = Builder(shape)
        x = b.conv("conv", -1, 6, kernel, stride, groups=2, dilation=2, bias=True)
        x = b.pool("max", x, "max_pool", 3, 1)
        x = b.pool("avg", b.batch_norm("bn", x), "avg_pool", 3, 1)
        b.flatten("flat", b.global_pool("pool", x))
        fragment = b.done()
        seen = {}
        model = Network([Placed("x", fragment, (-1,))]).eval()
        for layer in fragment.layers:
            module = model.get_submodule(f"x.{layer.name}")
            module.register_forward_hook(
                lambda _, __, y, name=layer.name, seen=seen: seen.update({name: tuple(y.shape[1:])})
            )
        model(torch.zeros(2, *shape))
        assert seen == {layer.name: layer.shape for layer in fragment.layers}
        assert fragment.params == sum(p.numel() for p in model.parameters())
