# ruff: noqa: E501
"""NASNet's space: published networks, codes, laws."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from stacking_contract import StackedContract
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture, InvalidArchitecture
from search_spaces.nasnet import AMOEBANET_A, CHOICES, NASNET_A, NSGANET_OPS, OPS, PNAS_OPS, NASNetSpace


class TestNASNetOfDigits(StackedContract):
    def make(self) -> NASNetSpace:
        return NASNetSpace((1, 8, 8), cells=1, filters=4)


class TestNASNetOfOddColourImages(StackedContract):
    """NSGA-Net's ops and outputs, sides that strides do not divide."""

    def make(self) -> NASNetSpace:
        return NASNetSpace(
            (3, 7, 10), 3, cells=1, filters=2, blocks=4, ops=NSGANET_OPS, combine=["add"], output="blocks"
        )


class TestNASNetOfListedOutputs(StackedContract):
    def make(self) -> NASNetSpace:
        return NASNetSpace(
            (3, 8, 8), 4, cells=1, filters=3, stem=3, blocks=3, ops=["id", "skip", "sep3", "max3", "conv1x3"],
            output="listed", skip_reduction_layer_input=True, crossover="two_point",
        )  # fmt: skip


class TestNASNetOfImageNet(StackedContract):
    def make(self) -> NASNetSpace:
        return NASNetSpace((3, 64, 64), 5, "imagenet", cells=1, filters=8, blocks=3)


class TestSmallestNASNet(StackedContract):
    """So small that its written forms are counted one by one."""

    def make(self) -> NASNetSpace:
        return NASNetSpace(
            (1, 4, 4), cells=1, filters=2, blocks=1, ops=["id", "max3"], combine=["add"], output="listed"
        )


MOBILE: dict[str, Any] = {"template": "imagenet", "cells": 4, "filters": 44}
LARGE: dict[str, Any] = {
    "template": "imagenet", "cells": 6, "filters": 168, "stem": 96, "skip_reduction_layer_input": True,
}  # fmt: skip


def imagenet(side: int, **settings: Any) -> NASNetSpace:
    return NASNetSpace((3, side, side), 1000, output="listed", **settings)


# --- published networks --------------------------------------------------------------------------------


def test_nasnet_a_mobile() -> None:
    """Zoph et al. 2018, table 2: 4 @ 1056 has 5.3M params, 564M multiply-adds; exactly as many params as
    osmr/imgclsmob counts in its reimplementation."""
    space = imagenet(224, **MOBILE)
    arch = space.decode(NASNET_A)
    cost = space.cost(arch)
    assert cost.params == 5_289_978
    assert round(cost.macs / 1e6) == 564
    with torch.device("meta"):
        model = space.build(arch).eval()
        x = torch.empty(1, 3, 224, 224)
    assert sum(p.numel() for p in model.parameters()) == cost.params
    with FlopCounterMode(display=False) as counter:
        assert model(x).shape == (1, 1000)
    assert counter.get_total_flops() == cost.flops


def test_nasnet_a_large() -> None:
    """Table 2: 6 @ 4032 has 23.8B multiply-adds; params as osmr/imgclsmob counts."""
    space = imagenet(331, **LARGE)
    cost = space.cost(space.decode(NASNET_A))
    assert cost.params == 88_753_150
    assert round(cost.macs / 1e8) == 238


def test_nasnet_a_cifar() -> None:
    """Table 1: 6 @ 768 has 3.3M params."""
    space = NASNetSpace(cells=6, filters=32, output="listed")
    assert round(space.cost(space.decode(NASNET_A)).params / 1e5) == 33


@pytest.mark.parametrize(
    ("space", "width"),
    [
        (NASNetSpace(cells=6, filters=32, output="listed"), 768),
        (imagenet(331, **LARGE), 4032),
        (imagenet(224, **MOBILE), 1056),
    ],
)
def test_penultimate_widths_of_nasnet_a(space: NASNetSpace, width: int) -> None:
    """Table 1 and 2 name the networks by them."""
    plan = space.plan(space.decode(NASNET_A))
    assert plan[plan[-1].inputs[0]].part.shape[0] == width


@pytest.mark.parametrize(
    ("cells", "filters", "side", "millions", "macs"),
    [(4, 50, 224, 5.1, 555_000_000), (6, 190, 331, 86.7, 23_100_000_000)],
)
def test_amoebanet_a(cells: int, filters: int, side: int, millions: float, macs: int) -> None:
    """Real et al. 2019, tables 2 and 3: N = 4, F = 50 and N = 6, F = 190."""
    space = imagenet(side, template="imagenet", cells=cells, filters=filters)
    cost = space.cost(space.decode(AMOEBANET_A))
    assert round(cost.params / 1e6, 1) == millions
    assert float(f"{cost.macs:.3g}") == macs


def test_pnas_has_136_cells_of_one_block() -> None:
    """Liu et al. 2018, section 3.1: 256 forms, 136 of them different (an addition has no order)."""
    space = NASNetSpace((1, 8, 8), blocks=1, ops=PNAS_OPS, combine=["add"])
    assert space.graph_size("normal") == 256
    sides = list(product(PNAS_OPS, (0, 1)))
    keys = set()
    for (a, i), (b, j) in product(sides, sides):
        arch = space.decode(f"{a}:{i}+{b}:{j} / id:0+id:1")
        keys.add(space.canonical(arch).graph("normal").certificate)
    assert len(keys) == 136


def test_the_lists_of_ops() -> None:
    assert [len(OPS), len(PNAS_OPS), len(NSGANET_OPS)] == [13, 8, 9]
    assert set(OPS) | set(PNAS_OPS) | set(NSGANET_OPS) == set(CHOICES)
    assert set(CHOICES) < set(NASNetSpace.operations)


# --- sizes and laws ------------------------------------------------------------------------------------


def test_sizes() -> None:
    """Each block: its choices of states squared, of ops squared, of combinations."""
    assert NASNetSpace().graph_size("normal") == (2 * 3 * 4 * 5 * 6) ** 2 * 13**10 * 2**5
    assert NASNetSpace().size() == NASNetSpace().graph_size("normal") ** 2
    pnas = NASNetSpace(ops=PNAS_OPS, combine=["add"])
    assert pnas.graph_size("reduction") == (2 * 3 * 4 * 5 * 6) ** 2 * 8**10


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_size_with_listed_outputs_by_enumeration(blocks: int) -> None:
    space = NASNetSpace(blocks=blocks, ops=["id", "sep3"], combine=["add"], output="listed")
    forms = 0
    for states in product(*(range(block + 2) for block in range(blocks) for _ in range(2))):
        forms += 2 ** len(set(states))  # what is read may be part of the output or not
    assert space.graph_size("normal") == forms * 2 ** (2 * blocks)


def test_every_choice_is_drawn_uniformly() -> None:
    space = NASNetSpace()
    rng = np.random.default_rng(0)
    drawn: dict[str, Counter[Any]] = {}
    for _ in range(1500):
        for graph, values in space.values(space.sample(rng)).items():
            for gene, value in zip(space.genes[graph], values, strict=True):
                drawn.setdefault(gene.name, Counter())[value] += 1
    assert len(drawn) == 50
    pvalues = []
    for graph in space.graphs:
        for gene in space.genes[graph]:
            pvalues.append(stats.chisquare([drawn[gene.name][choice] for choice in gene.choices]).pvalue)
    assert min(pvalues) > 0.001 / len(pvalues)
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01


def test_a_mutation_changes_one_gene_any_of_them() -> None:
    space = NASNetSpace()
    rng = np.random.default_rng(1)
    changed: Counter[str] = Counter()
    arch = space.sample(rng)
    for _ in range(2500):
        child = space.mutate(arch, rng)
        before, after = space.values(arch), space.values(child)
        names = [
            gene.name
            for graph in space.graphs
            for gene, a, b in zip(space.genes[graph], before[graph], after[graph], strict=True)
            if a != b
        ]
        assert len(names) == 1
        changed[names[0]] += 1
        arch = child
    assert len(changed) == 50
    assert stats.chisquare(list(changed.values())).pvalue > 0.01


# --- codes ---------------------------------------------------------------------------------------------


def test_codes_round_trip() -> None:
    rng = np.random.default_rng(0)
    for space in (
        NASNetSpace(),
        NASNetSpace(output="listed"),
        NASNetSpace(blocks=2, output="blocks", ops=NSGANET_OPS, combine=["add"]),
    ):
        for _ in range(100):
            arch = space.sample(rng)
            assert space.decode(space.code(arch)) == arch
            assert space.code(space.decode(space.code(arch))) == space.code(arch)


def test_published_codes_come_back_as_they_are() -> None:
    space = NASNetSpace(output="listed")
    for code in (NASNET_A, AMOEBANET_A):
        assert space.code(space.decode(code)) == code


def test_a_code_says_what_its_output_is_unless_it_is_all_that_nobody_reads() -> None:
    settings: dict[str, Any] = {"blocks": 1, "combine": ["add"], "ops": ["id"]}
    listed, blocks = NASNetSpace(output="listed", **settings), NASNetSpace(output="blocks", **settings)
    assert listed.code(listed.decode("id:0+id:0 / id:0+id:0 -> 0 1 2")) == "id:0+id:0 / id:0+id:0 -> 0 1 2"
    assert listed.code(listed.decode("id:0+id:0 -> 1 2 / id:0+id:0")) == "id:0+id:0 / id:0+id:0"
    assert blocks.code(blocks.decode("id:0+id:0 -> 2 / id:0+id:1 -> 2")) == "id:0+id:0 -> 2 / id:0+id:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "two cells"),
        ("id:0+id:1", "two cells"),
        ("id:0+id:1 / id:0+id:1 / id:0+id:1", "two cells"),
        ("id:0+id:1 / id:0+id:1 id:0+id:1", "the normal cell must have 2 blocks, but got 1 in 'id:0"),
        ("id:0+id:1 id:0+id:1 / ", "the reduction cell must have 2 blocks, but got 0"),
        ("id:0-id:1 id:0+id:1 / id:0+id:1 id:0+id:1", "a block must be op:state.op:state .* got 'id:0-id:1'"),
        ("id:0+id:01 id:0+id:1 / id:0+id:1 id:0+id:1", "a block must be .* 'id:0.id:01'"),
        ("id:0+id:-1 id:0+id:1 / id:0+id:1 id:0+id:1", "a block must be"),
        ("id:0+sep9:1 id:0+id:1 / id:0+id:1 id:0+id:1",
         "normal block 0 right op must be one of .*'sep7'.*, but got 'sep9'"),
        ("id:0+match:1 id:0+id:1 / id:0+id:1 id:0+id:1", "normal block 0 right op .*but got 'match'"),
        ("id:0+id:2 id:0+id:1 / id:0+id:1 id:0+id:1",
         r"normal block 0 right state must be one of \(0, 1\), but got 2"),
        ("id:0+id:1 id:0+id:1 / id:0+id:1 id:3+id:1",
         r"reduction block 1 left state must be one of \(0, 1, 2\), but got 3"),
        ("id:0&id:1 id:0+id:1 / id:0+id:1 id:0+id:1", "normal block 0 combination must be .* 'concat'"),
        ("id:0+id:1 id:0+id:2 -> 1 3 / id:0+id:1 id:0+id:1",
         "with output='unread' the output of the normal cell must be the states 3, but got 1 3"),
        ("id:0+id:1 id:0+id:1 -> 3 2 / id:0+id:1 id:0+id:1", "must be the states 2 3, but got 3 2"),
        ("id:0+id:1 id:0+id:1 -> / id:0+id:1 id:0+id:1", "must be the states 2 3, but got "),
        ("id:0+id:1 id:0+id:1 -> two / id:0+id:1 id:0+id:1", "must be the states 2 3, but got two"),
    ],
)  # fmt: skip
def test_a_wrong_code_is_refused(text: str, message: str) -> None:
    space = NASNetSpace(blocks=2, combine=["add"])
    with pytest.raises(InvalidArchitecture, match=message):
        space.decode(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id:0+id:0 -> 2 / id:0+id:1", "must be the states 1 2, but got 2"),
        ("id:0+id:0 -> 0 1 / id:0+id:1", "must be the states 0 1 2, but got 0 1"),
        ("id:0+id:0 -> 1 2 2 / id:0+id:1", "must be the states 1 2, but got 1 2 2"),
        ("id:0+id:0 -> 1 2 3 / id:0+id:1", "must be the states 1 2, but got 1 2 3"),
    ],
)
def test_a_listed_output_must_hold_what_no_block_reads(text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        NASNetSpace(blocks=1, output="listed").decode(text)


def test_nasnet_a_needs_listed_outputs() -> None:
    with pytest.raises(InvalidArchitecture, match=r"with output='unread' .* 2 3 4 5 6, but got 1 2 3 4 5 6"):
        NASNetSpace().decode(NASNET_A)


# --- architectures -------------------------------------------------------------------------------------


def test_the_written_form() -> None:
    """State 1 is not read: it stands in the output, matched."""
    space = NASNetSpace(blocks=2, ops=["id", "sep3"])
    arch = space.decode("sep3:0+id:0 id:0&sep3:2 / id:0+id:1 id:0+id:2")
    normal = [(n.id, n.op, n.inputs, n.params) for n in arch.graph("normal")]
    assert normal == [
        (0, "input", (), (("state", 0),)), (1, "input", (), (("state", 1),)),
        (2, "sep3", (0,), ()), (3, "id", (0,), ()), (4, "add", (2, 3), ()),
        (5, "id", (0,), ()), (6, "sep3", (4,), ()), (7, "concat", (5, 6), ()),
        (9, "match", (1,), ()), (10, "concat", (9, 7), ()),
    ]  # fmt: skip
    assert [n.id for n in arch.graph("reduction")] == [0, 1, 2, 3, 4, 5, 6, 7, 10]


def test_canonical_drops_what_changes_nothing() -> None:
    """Identities of states that fit; the stem, which state 1 is in the first cell, does not."""
    space = NASNetSpace((3, 8, 8), blocks=2, ops=["id", "sep3"])
    arch = space.canonical(space.decode("sep3:0+id:0 id:2+id:1 / id:0+id:1 id:2+id:2"))
    nodes = [(n.id, n.op, n.inputs) for n in arch.graph("normal")][2:]
    assert nodes == [(2, "sep3", (0,)), (6, "id", (1,)), (7, "add", (2, 0, 6))]
    reduction = [(n.id, n.op, n.inputs) for n in arch.graph("reduction")][2:]
    assert reduction == [(2, "id", (0,)), (3, "id", (1,)), (4, "add", (2, 3)), (7, "add", (4, 4))]


def test_an_architecture_of_one_template_is_one_of_the_other() -> None:
    small = NASNetSpace((1, 8, 8), cells=1, filters=4)
    large = NASNetSpace((3, 64, 64), 7, "imagenet", cells=2, filters=8)
    rng = np.random.default_rng(0)
    for _ in range(10):
        arch = small.sample(rng)
        large.check(arch)
        assert large.canonical(arch) == small.canonical(arch)
        assert large.code(arch) == small.code(arch)
        assert large.cost(arch).params > small.cost(arch).params


def broken(change: Any) -> Architecture:
    """sep3:0+id:1 sep3:2+id:0, nodes 0, 1; 2, 3, 4; 5, 6, 7; the output 10, after a change of its data."""
    space = NASNetSpace(blocks=2, ops=["id", "sep3"], combine=["add"])
    data = space.decode("sep3:0+id:1 sep3:2+id:0 / id:0+id:1 id:0+id:1").to_dict()
    change(data["graphs"][0]["nodes"])
    return Architecture.from_dict(data)


def put(place: int, **fields: Any) -> Any:
    return lambda nodes: nodes[place].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(2, op="conv9"), r"node 2 \(conv9\): normal block 0 left op must be one of .*, but got 'conv9'"),
        (put(2, op="max3"), r"node 2 \(max3\): normal block 0 left op must be one of \('id', 'sep3'\)"),
        (put(2, op="input"), r"node 2 \(input\): it must have no inputs"),
        (put(2, inputs=[99]), r"node 2 \(sep3\): inputs must name nodes of the graph, but got input 99"),
        (put(2, inputs=[2]), r"node 2 \(sep3\): inputs must name earlier nodes"),
        (put(2, inputs=[4]), r"node 2 \(sep3\): inputs must name earlier nodes"),
        (put(5, inputs=[2]), r"node 5 \(sep3\): an op must read one state .* nodes \[0, 1, 4\], but got \(2,\)"),
        (put(5, inputs=[0, 1]), r"node 5 \(sep3\): an op must read one state .* but got \(0, 1\)"),
        (put(5, params={"kernel": 3}), r"node 5 \(sep3\): .* parameters {}, but got .* {'kernel': 3}"),
        (put(4, op="concat"), r"node 4 \(concat\): normal block 0 combination must be one of \('add',\)"),
        (put(4, inputs=[3, 2]), r"node 4 \(add\): .* inputs \(2, 3\) .* but got \(3, 2\)"),
        (put(4, inputs=[2]), r"node 4 \(add\): .* inputs \(2, 3\) .* but got \(2,\)"),
        (put(7, inputs=[5, 5]), r"node 7 \(add\): .* inputs \(5, 6\)"),
        (put(8, inputs=[4, 7]), r"node 10 \(concat\): .* inputs \(7,\) .* but got \(4, 7\)"),
        (put(8, op="add"), r"node 10 \(add\): space 'nasnet' writes 'concat' here"),
        (put(0, params={}), r"node 0 \(input\): .* {'state': 0}, but got .* {}"),
        (put(1, params={"state": 0}), r"node 1 \(input\): .* {'state': 1}"),
        (put(1, params={"state": True}), r"node 1 \(input\)"),
        (lambda nodes: nodes.pop(), r"node 7 \(add\): .* must have 9 nodes .* but got 8"),
        (lambda nodes: nodes.append(nodes[2] | {"id": 30}), r"node 30 \(sep3\): .* must have 9 nodes"),
        (lambda nodes: nodes.__delitem__(slice(5, None)), r"node 4 \(add\): .* not what space 'nasnet' writes"),
    ],
)  # fmt: skip
def test_a_cell_that_breaks_a_rule_names_node_and_rule(change: Any, message: str) -> None:
    space = NASNetSpace(blocks=2, ops=["id", "sep3"], combine=["add"])
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(broken(change))


def test_an_unread_state_must_be_listed_and_a_cell_of_other_graphs_is_refused() -> None:
    space = NASNetSpace(blocks=2, ops=["id", "sep3"], combine=["add"], output="listed")
    arch = space.decode("sep3:0+id:1 sep3:0+id:0 / id:0+id:1 id:0+id:1")
    data = arch.to_dict()
    data["graphs"][0]["nodes"][8]["inputs"] = [7]
    with pytest.raises(
        InvalidArchitecture, match=r"node 10 \(concat\): .* inputs \(4, 7\) .* but got \(7,\)"
    ):
        space.check(Architecture.from_dict(data))
    with pytest.raises(InvalidArchitecture, match=r"graphs must be \('normal', 'reduction'\)"):
        space.check(Architecture("nasnet", (("normal", arch.graph("normal")),)))
    with pytest.raises(
        InvalidArchitecture, match=r"node 10 \(concat\): normal block 2 left op must be one of"
    ):
        NASNetSpace(blocks=3).check(arch)


# --- constructor arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (32, 32)}, "input_shape must be"),
        ({"input_shape": (3, 3, 32)}, "sides of input_shape must be at least 4 for template 'cifar'"),
        ({"input_shape": (3, 31, 64), "template": "imagenet"}, "at least 32 for template 'imagenet'"),
        ({"template": "mnist"}, r"template must be one of \['cifar', 'imagenet'\], but got 'mnist'"),
        ({"classes": 1}, "classes >= 2"),
        ({"cells": 0}, "`cells >= 1, blocks >= 1 and stem >= 0` must hold, .* cells=0"),
        ({"blocks": 0}, "blocks=0"),
        ({"blocks": 2.0}, "all integers, .*blocks=2.0"),
        ({"stem": -1}, "stem=-1"),
        ({"filters": 1}, "`filters >= 2` must hold for template 'cifar', but got filters=1"),
        ({"filters": 7, "template": "imagenet", "input_shape": (3, 64, 64)}, "`filters >= 8` must hold"),
        ({"filters": True}, "filters >= 2"),
        ({"ops": []}, "ops must be different ones of"),
        ({"ops": ["id", "id"]}, r"ops must be different ones of .* but got \['id', 'id'\]"),
        ({"ops": ["id", "match"]}, "ops must be different ones of"),
        ({"combine": ["add", "mean"]}, r"combine must be different ones of \('add', 'concat'\), but got"),
        ({"combine": []}, "combine must be"),
        ({"output": "all"}, r"output must be one of \('unread', 'blocks', 'listed'\), but got 'all'"),
        ({"crossover": "none"}, "crossover must be one of"),
    ],
)  # fmt: skip
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NASNetSpace(**arguments)


@pytest.mark.parametrize(
    "space",
    [NASNetSpace((3, 4, 4)), NASNetSpace((3, 32, 32), template="imagenet", filters=8, cells=1)],
    ids=["cifar", "imagenet"],
)
def test_the_smallest_images_take_every_cell(space: NASNetSpace) -> None:
    """1 x 7 and 7 x 1 stride one axis each: the second sees a side of 1."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        arch = space.sample(rng)
        space.check(arch)
        space.check(space.mutate(arch, rng))
