# ruff: noqa: E501
"""DARTS's space: published networks, genotypes, laws."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from stacking_contract import StackedContract
from torch.utils.flop_counter import FlopCounterMode

from nas.architecture import Architecture, InvalidArchitecture
from search_spaces.darts import DARTS_V1, DARTS_V2, OPS, DARTSSpace


class TestDARTSOfDigits(StackedContract):
    def make(self) -> DARTSSpace:
        return DARTSSpace((1, 8, 8), cells=3, filters=4)


class TestDARTSOfOddColourImages(StackedContract):
    def make(self) -> DARTSSpace:
        return DARTSSpace((3, 7, 10), 3, cells=4, filters=3, crossover="point")


class TestDARTSOfImageNet(StackedContract):
    def make(self) -> DARTSSpace:
        return DARTSSpace((3, 64, 64), 5, "imagenet", cells=3, filters=4)


# --- published networks --------------------------------------------------------------------------------

OFFICIAL_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
OFFICIAL_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
    "('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
"""As in quark0/darts, cnn/genotypes.py."""

PDARTS = (
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0),('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3',0), ('dil_conv_5x5', 4)], "
    "normal_concat=range(2, 6), reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), "
    "('dil_conv_5x5', 2), ('max_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), "
    "('dil_conv_5x5', 3)], reduce_concat=range(2, 6))"
)
"""As in chenxin061/pdarts, genotypes.py."""

PC_DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1), "
    "('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)], "
    "normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), "
    "('sep_conv_5x5', 2), ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 2)], reduce_concat=range(2, 6))"
)
"""As in yuhuixu1993/PC-DARTS, genotypes.py."""

CIFAR_POOLED = (72 * 16**2 + 144 * 8**2, 576)
IMAGENET_POOLED = (96 * 14**2 + 192 * 7**2, 768)
"""Numbers that average poolings put out: one in the reduction cell, and the one of the head. Where it says
so below, the published count has them in."""


@pytest.fixture(scope="module")
def cifar() -> DARTSSpace:
    return DARTSSpace(cells=20, filters=36)


@pytest.fixture(scope="module")
def imagenet() -> DARTSSpace:
    return DARTSSpace((3, 224, 224), 1000, "imagenet", cells=14, filters=48)


@pytest.mark.parametrize(
    ("genotype", "params"),
    [
        (OFFICIAL_V1, 3_169_414),  # counted by cogsys-tuebingen/uninas, tests: test_model_params
        (OFFICIAL_V2, 3_349_342),  # logged by quark0/darts, train.py: "param size = 3.349342MB"
        (PDARTS, 3_433_798),  # counted in chenxin061/pdarts, issue 7, and by uninas
    ],
)
def test_params_of_cifar_networks(cifar: DARTSSpace, genotype: str, params: int) -> None:
    assert cifar.cost(cifar.decode(genotype)).params == params


def test_params_of_pc_darts(cifar: DARTSSpace) -> None:
    """Xu et al. 2020, table 1: 3.6M."""
    assert round(cifar.cost(cifar.decode(PC_DARTS)).params / 1e5) == 36


@pytest.mark.parametrize(
    ("genotype", "macs"), [(OFFICIAL_V1, 501_015_744), (PDARTS, 532_202_688)], ids=["DARTS_V1", "PDARTS"]
)
def test_macs_of_cifar_networks(cifar: DARTSSpace, genotype: str, macs: int) -> None:
    """As counted by uninas, average poolings in."""
    assert cifar.cost(cifar.decode(genotype)).macs == macs - sum(CIFAR_POOLED)


@pytest.mark.parametrize(
    ("genotype", "params", "macs"),
    [(OFFICIAL_V1, 4_510_432, 505_893_696), (PDARTS, 4_944_352, 542_848_320)],
    ids=["DARTS_V1", "PDARTS"],
)
def test_imagenet_networks(imagenet: DARTSSpace, genotype: str, params: int, macs: int) -> None:
    """As counted by uninas, average poolings in."""
    cost = imagenet.cost(imagenet.decode(genotype))
    assert cost.params == params
    assert cost.macs == macs - sum(IMAGENET_POOLED)


def test_darts_v2_of_imagenet(imagenet: DARTSSpace) -> None:
    """quark0/darts, README: 4.719MB params."""
    assert round(imagenet.cost(imagenet.decode(OFFICIAL_V2)).params / 1e3) == 4719


def test_the_built_network_of_darts_v2(cifar: DARTSSpace) -> None:
    arch = cifar.decode(DARTS_V2)
    with torch.device("meta"):
        model = cifar.build(arch).eval()
        x = torch.empty(1, 3, 32, 32)
    assert sum(p.numel() for p in model.parameters()) == 3_349_342
    with FlopCounterMode(display=False) as counter:
        assert model(x).shape == (1, 10)
    assert counter.get_total_flops() == cifar.cost(arch).flops


# --- sizes and laws ------------------------------------------------------------------------------------


def test_size() -> None:
    """Each node: a pair of earlier states, two of seven ops: 1, 3, 6 and 10 times 49."""
    space = DARTSSpace()
    assert space.graph_size("normal") == space.graph_size("reduction") == 180 * 49**4 == 1_037_664_180
    assert space.size() == 1_037_664_180**2


def test_every_choice_is_drawn_uniformly() -> None:
    space = DARTSSpace()
    rng = np.random.default_rng(0)
    drawn: dict[str, Counter[Any]] = {}
    for _ in range(1500):
        for graph, values in space.values(space.sample(rng)).items():
            for gene, value in zip(space.genes[graph], values, strict=True):
                drawn.setdefault(gene.name, Counter())[value] += 1
    pvalues = []
    for graph in space.graphs:
        for gene in space.genes[graph]:
            if len(gene.choices) > 1:
                pvalues.append(stats.chisquare([drawn[gene.name][c] for c in gene.choices]).pvalue)
    assert len(pvalues) == 22
    assert min(pvalues) > 0.001 / len(pvalues)
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01


def test_mutations_are_uniform_over_genes_and_their_other_values() -> None:
    space = DARTSSpace()
    rng = np.random.default_rng(1)
    arch = space.decode(DARTS_V2)
    of_gene: Counter[str] = Counter()
    of_value: Counter[Any] = Counter()
    for _ in range(2200):
        child = space.mutate(arch, rng)
        ((name, value),) = [
            (gene.name, b)
            for graph in space.graphs
            for gene, a, b in zip(
                space.genes[graph], space.values(arch)[graph], space.values(child)[graph], strict=True
            )
            if a != b
        ]
        of_gene[name] += 1
        of_value[value] += name == "normal 2 first op"
    assert len(of_gene) == 22  # the inputs of the first node have no other value
    assert stats.chisquare(list(of_gene.values())).pvalue > 0.01
    counts = [of_value[op] for op in OPS if op != "sep_conv_3x3"]
    assert stats.chisquare(counts).pvalue > 0.01


def test_neighbours_of_a_genotype() -> None:
    """For each cell: 2 + 5 + 9 other pairs, 8 x 6 other ops."""
    space = DARTSSpace()
    around = space.neighbors(space.decode(DARTS_V1))
    assert len(around) == 2 * (16 + 48) == len(set(around))


# --- genotypes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("genotype", [OFFICIAL_V1, OFFICIAL_V2, PDARTS, PC_DARTS])
def test_official_genotypes_round_trip(genotype: str) -> None:
    """Up to the order of a node's two edges, which are summed."""
    space = DARTSSpace()
    arch = space.decode(genotype)
    code = space.code(arch)
    assert space.decode(code) == arch
    assert space.code(space.decode(code)) == code

    def nodes(text: str) -> list[set[Any]]:
        edges = re.findall(r"\('(\w+)', *(\d)\)", text)
        return [set(edges[i : i + 2]) for i in range(0, 16, 2)]

    assert nodes(code) == nodes(genotype)


def test_the_constants_are_the_official_genotypes() -> None:
    space = DARTSSpace()
    assert space.code(space.decode(OFFICIAL_V1)) == DARTS_V1
    assert space.code(space.decode(OFFICIAL_V2)) == DARTS_V2


def test_samples_round_trip_and_text_may_be_wrapped() -> None:
    space = DARTSSpace()
    rng = np.random.default_rng(0)
    for _ in range(100):
        arch = space.sample(rng)
        code = space.code(arch)
        assert space.decode(code) == arch
        assert (
            space.decode("\n " + code.replace("), ", "),\n    ").replace("range(2, 6)", "[2,3,4,5]")) == arch
        )


EDGES = "[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)" + ", ('sep_conv_3x3', 0), ('sep_conv_3x3', 1)" * 3 + "]"


def genotype(normal: str = EDGES, concat: str = "range(2, 6)", reduce: str = EDGES) -> str:
    return f"Genotype(normal={normal}, normal_concat={concat}, reduce={reduce}, reduce_concat=range(2, 6))"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a genotype must be Genotype\(normal=\[…\].* but got ''"),
        ("Genotype(", "a genotype must be"),
        ("[1, 2]", "it is no call"),
        ("print('ran')", "a genotype must be"),
        ("__import__('os').system('true')", "it is no call"),
        ("Genotype(1, 2, 3, 4)", "it is no call"),
        ("DARTS(normal=[], normal_concat=[], reduce=[], reduce_concat=[])", "it is DARTS of"),
        (f"Genotype(normal={EDGES}, normal_concat=range(2, 6))", r"it is Genotype of \['normal', 'normal_con"),
        (genotype() + "; 1", "a genotype must be"),
        (genotype(normal="open('x')"), "a genotype must be"),
        (genotype(concat="range(2)"), "a genotype must be"),
        (genotype(concat="range(0, 10**9)"), "a genotype must be"),
        (genotype(concat="range(0, 1000000000)"), "is no range of states"),
        (genotype(concat="range('a', 'b')"), "is no range of states"),
        (genotype(concat="range(2, 5)"), r"normal_concat must be range\(2, 6\), but got \[2, 3, 4\]"),
        (genotype(concat="[1, 2, 3, 4, 5]"), r"normal_concat must be range\(2, 6\)"),
        (genotype(concat="[5, 4, 3, 2]"), r"normal_concat must be range\(2, 6\)"),
        (genotype(concat="7"), r"normal_concat must be range\(2, 6\), but got 7"),
        (genotype(normal="[]"), r"normal must be 8 pairs like \('sep_conv_3x3', 1\), but got \[\]"),
        (genotype(normal="8"), "normal must be 8 pairs"),
        (genotype(reduce=EDGES.replace("0)", "0.0)")), "reduce must be 8 pairs"),
        (genotype(reduce=EDGES.replace("('sep_conv_3x3', 0)", "('sep_conv_3x3',)")), "reduce must be 8 pairs"),
        (genotype(normal=EDGES.replace("'sep_conv_3x3', 0", "'conv_3x3', 0", 1)),
         "normal 2 first op must be one of .*'sep_conv_3x3'.* but got 'conv_3x3'"),
        (genotype(reduce=EDGES.replace("sep_conv_3x3", "none")), "reduction 2 first op .* but got 'none'"),
        (genotype(normal=EDGES.replace("'sep_conv_3x3', 1", "'sep_conv_3x3', 0", 1)),
         r"normal 2 inputs must be one of \('0 1',\), but got '0 0'"),
        (genotype(normal=EDGES.replace("'sep_conv_3x3', 1", "'sep_conv_3x3', 2", 1)),
         "normal 2 inputs must be one of .* but got '0 2'"),
        (genotype(normal=EDGES[:-3] + "5)]"), "normal 5 inputs must be one of .* but got '0 5'"),
        (genotype(reduce=EDGES.replace("'sep_conv_3x3', 0", "'sep_conv_3x3', -1", 1)), "got '-1 1'"),
        ("(" * 5000, "a genotype must be"),
    ],
)  # fmt: skip
def test_a_wrong_genotype_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        DARTSSpace().decode(text)


# --- architectures -------------------------------------------------------------------------------------


def test_the_written_form() -> None:
    arch = DARTSSpace().decode(DARTS_V2)
    assert [(n.id, n.op, n.inputs, n.params) for n in arch.graph("normal")] == [
        (0, "input", (), (("state", 0),)), (1, "input", (), (("state", 1),)),
        (2, "sep_conv_3x3", (0,), ()), (3, "sep_conv_3x3", (1,), ()), (4, "add", (2, 3), ()),
        (5, "sep_conv_3x3", (0,), ()), (6, "sep_conv_3x3", (1,), ()), (7, "add", (5, 6), ()),
        (8, "skip_connect", (0,), ()), (9, "sep_conv_3x3", (1,), ()), (10, "add", (8, 9), ()),
        (11, "skip_connect", (0,), ()), (12, "dil_conv_3x3", (4,), ()), (13, "add", (11, 12), ()),
        (14, "concat", (4, 7, 10, 13), ()),
    ]  # fmt: skip


def test_canonical_drops_skips_of_the_normal_cell_only() -> None:
    space = DARTSSpace()
    network = space.canonical(space.decode(DARTS_V2))
    assert [(n.id, n.inputs) for n in network.graph("normal") if n.op == "add"] == [
        (4, (2, 3)), (7, (5, 6)), (10, (0, 9)), (13, (0, 12)),
    ]  # fmt: skip
    assert Counter(n.op for n in network.graph("reduction"))["skip_connect"] == 0  # they read node 2
    strided = space.decode(genotype(reduce=EDGES.replace("sep_conv_3x3", "skip_connect")))
    assert space.canonical(strided).graph("reduction") == strided.graph("reduction")


def test_an_architecture_of_one_template_is_one_of_the_other() -> None:
    small = DARTSSpace((1, 8, 8), cells=3, filters=4)
    large = DARTSSpace((3, 64, 64), 7, "imagenet", cells=6, filters=8)
    rng = np.random.default_rng(0)
    for _ in range(10):
        arch = small.sample(rng)
        large.check(arch)
        assert large.canonical(arch) == small.canonical(arch)
        assert large.code(arch) == small.code(arch)
        assert large.cost(arch).params > small.cost(arch).params


def put(place: int, **fields: Any) -> Any:
    return lambda nodes: nodes[place].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(2, op="conv_9x9"), r"node 2 \(conv_9x9\): normal 2 first op must be one of .* got 'conv_9x9'"),
        (put(2, op="none"), r"node 2 \(none\): normal 2 first op"),
        (put(3, op="add"), r"node 3 \(add\): normal 2 second op must be one of"),
        (put(2, inputs=[99]), r"node 2 \(sep_conv_3x3\): inputs must name nodes of the graph"),
        (put(2, inputs=[2]), r"node 2 \(sep_conv_3x3\): inputs must name earlier nodes"),
        (put(2, inputs=[4]), r"node 2 \(sep_conv_3x3\): inputs must name earlier nodes"),
        (put(3, inputs=[0]), r"node 3 \(sep_conv_3x3\): normal 2 inputs must be one of .* but got '0 0'"),
        (put(12, inputs=[0]), r"node 12 \(dil_conv_3x3\): normal 5 inputs must be one of .* but got '0 0'"),
        (put(5, inputs=[4]), r"normal 3 inputs must be one of \('0 1', '0 2', '1 2'\), but got '2 1'"),
        (put(6, inputs=[5]), r"node 6 \(sep_conv_3x3\): an op must read one state .*\[0, 1, 4\].* got \(5,\)"),
        (put(6, inputs=[0, 1]), r"node 6 \(sep_conv_3x3\): an op must read one state"),
        (put(6, params={"kernel": 3}), r"node 6 \(sep_conv_3x3\): .* parameters {}, but got .* {'kernel': 3}"),
        (put(7, op="concat"), r"node 7 \(concat\): space 'darts' writes 'add' here"),
        (put(7, inputs=[6, 5]), r"node 7 \(add\): .* inputs \(5, 6\) .* but got \(6, 5\)"),
        (put(7, inputs=[5, 6, 4]), r"node 7 \(add\): .* inputs \(5, 6\)"),
        (put(14, inputs=[4, 7, 10]), r"node 14 \(concat\): .* inputs \(4, 7, 10, 13\) .* but got \(4, 7, 10\)"),
        (put(14, inputs=[0, 4, 7, 10, 13]), r"node 14 \(concat\): .* but got \(0, 4, 7, 10, 13\)"),
        (put(14, inputs=[13, 10, 7, 4]), r"node 14 \(concat\): .* but got \(13, 10, 7, 4\)"),
        (put(1, params={"state": 0}), r"node 1 \(input\): .* {'state': 1}"),
        (lambda nodes: nodes.pop(), r"node 13 \(add\): .* must have 15 nodes .* but got 14"),
        (lambda nodes: nodes.append(nodes[2] | {"id": 30}), r"node 30 \(sep_conv_3x3\): .* 15 nodes"),
        (lambda nodes: nodes.__delitem__(slice(9, None)), r"node 8 .* not what space 'darts' writes"),
    ],
)  # fmt: skip
def test_a_cell_that_breaks_a_rule_names_node_and_rule(change: Any, message: str) -> None:
    space = DARTSSpace()
    data = space.decode(DARTS_V2).to_dict()
    change(data["graphs"][0]["nodes"])
    with pytest.raises(InvalidArchitecture, match=message):
        space.check(Architecture.from_dict(data))


# --- constructor arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (32, 32)}, "input_shape must be"),
        ({"input_shape": (3, 3, 32)}, "sides of input_shape must be at least 4 for template 'cifar'"),
        ({"input_shape": (3, 31, 64), "template": "imagenet"}, "at least 32 for template 'imagenet'"),
        ({"template": "mnist"}, r"template must be one of \['cifar', 'imagenet'\], but got 'mnist'"),
        ({"classes": 1}, "classes >= 2"),
        ({"cells": 2}, "`cells >= 3 and filters >= 2` must hold, but got cells=2, filters=16"),
        ({"cells": 8.0}, "cells=8.0"),
        ({"filters": 1}, "filters=1"),
        ({"filters": True}, "filters=True"),
        ({"crossover": "none"}, "crossover must be one of"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DARTSSpace(**arguments)
