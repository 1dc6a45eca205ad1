# ruff: noqa: E501
"""Templates: the contract, what they count and draw, what they refuse, and studies that keep theirs."""

from __future__ import annotations

import pickle
import tomllib
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from scipy import stats
from spaces_contract import SpaceContract, written

from nas import Objective, Study
from nas.architecture import Architecture, InvalidArchitecture
from nas.config import read_settings, settings_to_toml
from nas.protocols import NothingToChange
from nas.registry import UnknownName
from nas.searchers import RegularizedEvolution
from nas.trial import Trial
from search_spaces.nasbench_macro import DIGITS, PLACES, NASBenchMacroSpace
from search_spaces.operations import BLOCKS, Operation
from search_spaces.template import EXAMPLE, TemplateSpace, read_template
from tests.studies import tables

NAME = "search_spaces.template:TemplateSpace"


def choice(*values: Any) -> dict[str, Any]:
    return {"choice": list(values)}


def node(name: str, op: Any = "conv", **more: Any) -> dict[str, Any]:
    """A node of the template; a convolution is 3x3 with 4 channels where nothing else is said."""
    given = {"kernel": 3, "width": 4} if op == "conv" else {}
    return {"name": name, "op": op, **given, **more}


def space_of(
    *nodes: dict[str, Any], shape: tuple[int, ...] = (3, 8, 8), **choices: list[Any]
) -> TemplateSpace:
    return TemplateSpace(shape, 3, nodes, choices)


# --- the contract ------------------------------------------------------------------------------------


class TestExample(SpaceContract):
    nodes_a_change = 4
    """The shared width stands in the stem and in the blocks of three copies."""

    def make(self) -> TemplateSpace:
        return TemplateSpace((3, 12, 12))


class TestBranches(SpaceContract):
    """Wirings, optional nodes and joins on odd images, of which deep strides leave too little."""

    nodes_a_change = 3
    """The shared width."""

    def make(self) -> TemplateSpace:
        return TemplateSpace(
            (1, 7, 9),
            classes=2,
            choices={"width": [4, 6]},
            nodes=[
                node("stem", width="$width"),
                node("a", choice("conv", "sepconv", "mbconv"), kernel=3, width="$width", expand=choice(1, 2)),
                node("b", "activation", kind=choice("gelu", "tanh"), inputs=choice("stem", "a")),
                node("sum", "add", inputs=choice(["a", "b"], ["a", "b", "stem"])),
                node("pool", choice("max_pool", "avg_pool"), kernel=choice(2, 3, 5), stride=2),
                node("c", "conv_bn", inputs="pool", kernel=3, width=5, stride=choice(1, 2)),
                node("d", "identity", inputs="pool", width="$width", stride=choice(1, 2)),
                node("cat", "concat", inputs=["d", "c"]),
                node("se", "squeeze_excite", reduction=2, optional=True),
            ],
        )


class TestStages(SpaceContract):
    """Groups in groups; copies of which the first strides; nothing may be left at all."""

    def make(self) -> TemplateSpace:
        block = [
            node("conv", choice("conv", "sepconv"), width=6, first={"stride": 2, "kernel": choice(3, 5)}),
            {"name": "more", "repeat": choice(0, 2), "nodes": [
                node("x", "activation", kind="relu", optional=True), node("y", width=6),
            ]},
        ]  # fmt: skip
        block[0] |= {"kernel": 3}
        return TemplateSpace(
            (2, 6, 6),
            classes=4,
            nodes=[
                {"name": "stage", "repeat": choice(0, 1, 2), "nodes": block},
                node("wide", "sepconv", kernel=3, width=4, optional=True),
            ],
            crossover="two_point",
        )


class TestSeries(SpaceContract):
    def make(self) -> TemplateSpace:
        return TemplateSpace(
            (3, 19),
            classes=4,
            nodes=[
                node("conv", choice("conv", "sepconv"), kernel=choice(3, 9), width=choice(4, 8), repeat=choice(1, 2, 3)),
                node("pool", choice("max_pool", "avg_pool", "skip"), kernel=2, stride=2),
                node("flat", "global_pool", optional=True),
                node("hidden", choice("dense", "linear"), width=choice(8, 16)),
            ],
        )  # fmt: skip


class TestTable(SpaceContract):
    def make(self) -> TemplateSpace:
        return TemplateSpace(
            (6,),
            classes=3,
            nodes=[
                node("first", "dense", width="$width"),
                {"name": "block", "repeat": choice(1, 3), "nodes": [
                    node("hidden", choice("dense", "linear"), width="$width"),
                    node("bend", "activation", kind=choice("gelu", "silu"), optional=True),
                    node("sum", "add", inputs=["bend", "input"], optional=True),
                ]},
            ],
            choices={"width": [5, 7, 9]},
        )  # fmt: skip

    nodes_a_change = 4
    """The shared width."""


class TestTied(SpaceContract):
    """Two widths that must agree: one alone cannot change, so two change together."""

    def make(self) -> TemplateSpace:
        widths = choice(4, 6, 8)
        return space_of(
            node("a", width=widths, kernel=choice(1, 3)),
            node("b", width=widths, inputs="input"),
            node("sum", "add", inputs=["a", "b"]),
            shape=(1, 5, 5),
        )


# --- what a template holds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "choices", "size"),
    [
        ([node("a")], {}, 1),
        ([node("a", kernel=choice(1, 3, 5), width=choice(4, 8))], {}, 6),
        ([node("a", repeat=choice(1, 3), kernel=choice(1, 3))], {}, 2 + 8),
        ([node("a", repeat=2, kernel=choice(1, 3))], {}, 4),
        ([node("a", optional=True, kernel=choice(1, 3))], {}, 1 + 2),
        ([node("a", width="$w"), node("b", width="$w")], {"w": [4, 8]}, 2),
        ([node("a", repeat="$n"), node("b", "sepconv", kernel=3, width=4, repeat="$n")], {"n": [1, 2]}, 2),
        ([node("a", "$op", kernel=3, width=4, repeat=2)], {"op": ["conv", "sepconv", "conv_bn"]}, 3),
        ([node("a", choice("conv", "max_pool", "skip"), kernel=choice(1, 3), width=choice(4, 8))], {}, 4 + 2 + 1),
        ([node("a"), node("b"), node("c", inputs=choice("a", "b", "input"))], {}, 3),
        # strides of 2 on sides of 8: at most three of five
        ([node("a", repeat=5, stride=choice(1, 2, 8))], {}, 1 + 5 + 10 + 10 + 5 * 1),
        # 4 channels each, or 8 each
        ([node("a", width=choice(4, 8)), node("b", width=choice(4, 8)), node("c", "add", inputs=["a", "b"])], {}, 2),
        # a group of two nodes, once, twice or not at all
        ([{"repeat": choice(0, 1, 2), "nodes": [node("a", kernel=choice(1, 3)), node("b")]}], {}, 1 + 2 + 4),
    ],
)  # fmt: skip
def test_size_by_hand(nodes: list[dict[str, Any]], choices: dict[str, list[Any]], size: int) -> None:
    """What is counted: choices that matter, and shapes that fit."""
    space = TemplateSpace((3, 8, 8), 10, nodes, choices)
    assert space.size() == size
    assert len(every(space)) == size


def every(space: TemplateSpace) -> set[Any]:
    """Written forms of all combinations that fit, listed one by one."""
    forms = set()
    for values in product(*(gene.choices for gene in space.genes["net"])):
        arch = space.architecture({"net": values})
        try:
            space.check(arch)
        except InvalidArchitecture:
            continue
        forms.add(written(arch))
    return forms


@pytest.mark.parametrize("make", [TestBranches().make, TestStages().make, TestTable().make, TestTied().make])
def test_size_is_what_listing_finds(make: Any) -> None:
    space = make()
    assert space.size() == len(every(space))


def test_the_size_of_a_large_template_is_exact() -> None:
    """The block's three choices twice in a row, five stages of one to four: sum of powers, to the fifth."""
    stage = {
        "repeat": choice(1, 2, 3, 4),
        "nodes": [node("a", choice("conv", "sepconv"), kernel=choice(3, 5), width=4)],
    }
    space = TemplateSpace((3, 8, 8), 10, [stage | {"name": f"s{i}"} for i in range(5)])  # fmt: skip
    assert space.size() == (4 + 16 + 64 + 256) ** 5


def test_samples_are_uniform_over_what_fits() -> None:
    space = space_of(
        node("a", width=choice(4, 8), kernel=choice(1, 3)),
        node("b", width=choice(4, 8)),
        node("c", "add", inputs=choice(["a", "b"], ["b", "b"])),
    )
    assert space.size() == 8 + 4
    rng = np.random.default_rng(0)
    drawn = Counter(written(space.sample(rng)) for _ in range(2400))
    assert set(drawn) == every(space)
    assert stats.chisquare(list(drawn.values())).pvalue > 0.001


def test_a_mutation_is_uniform_over_genes_then_over_values() -> None:
    space = space_of(node("a", kernel=choice(1, 3, 5), width=choice(4, 8)))
    arch = space.architecture({"net": (1, 4)})
    rng = np.random.default_rng(0)
    drawn = Counter(space.values(space.mutate(arch, rng))["net"] for _ in range(2000))
    assert set(drawn) == {(3, 4), (5, 4), (1, 8)}
    assert stats.chisquare([drawn[3, 4], drawn[5, 4], drawn[1, 8]], [500, 500, 1000]).pvalue > 0.001


def test_a_change_that_does_not_fit_takes_a_second_one_with_it() -> None:
    space = TestTied().make()
    arch = space.architecture({"net": (1, 4, 4)})  # a.kernel, a.width, b.width
    widths = [[n["width"] for n in other.graph() if n.op == "conv"] for other in space.neighbors(arch)]
    assert sorted(widths) == [[4, 4], [6, 6], [8, 8]]


def test_where_two_changes_are_not_enough_there_is_none() -> None:
    space = space_of(
        *(node(name, width=choice(4, 8), inputs="input") for name in "abc"),
        node("sum", "add", inputs=["a", "b", "c"]),
    )
    arch = space.sample(np.random.default_rng(0))
    assert space.size() == 2
    assert space.neighbors(arch) == []
    with pytest.raises(NothingToChange, match="no change of one choice, or of two, fits"):
        space.mutate(arch, np.random.default_rng(0))
    assert space.crossover(arch, arch, np.random.default_rng(0)) == arch


def test_a_template_without_choices_is_one_architecture() -> None:
    space = space_of(node("a"), node("b", repeat=2))
    arch = space.sample(np.random.default_rng(0))
    assert [n.op for n in arch.graph()] == ["input", "conv", "conv", "conv"]
    assert space.neighbors(arch) == []
    assert space.encode(arch).shape == (0,)
    with pytest.raises(NothingToChange):
        space.mutate(arch, np.random.default_rng(0))


def test_copies_come_and_go_without_touching_other_nodes() -> None:
    """stage 1 -> 3 adds nodes with new ids; what stays keeps op, parameters and id."""
    space = TemplateSpace()
    values = dict(
        zip(
            [g.name for g in space.genes["net"]],
            space.values(space.sample(np.random.default_rng(1)))["net"],
            strict=True,
        )
    )
    one, three = (
        space.architecture({"net": tuple((values | {"stage.repeat": n}).values())}).graph() for n in (1, 3)
    )  # fmt: skip
    assert {space.names[n.id] for n in one if n.op == "left_out"} >= {"stage"}
    before, after = ({n.id: (n.op, n.params) for n in g if n.op != "left_out"} for g in (one, three))
    assert before.items() <= after.items()
    added = {space.names[i] for i in after.keys() - before.keys()}
    assert {"stage.2.block", "stage.3.block"} <= added <= {
        "stage.2.block", "stage.3.block", "stage.2.residual", "stage.3.residual"
    }  # fmt: skip


def test_what_is_left_out_is_not_in_the_network() -> None:
    space = TemplateSpace()
    rng = np.random.default_rng(0)
    for arch in (space.sample(rng) for _ in range(50)):
        assert "left_out" not in {n.op for n in space.canonical(arch).graph()}
    nothing = space_of(node("a", optional=True))
    bare = nothing.architecture({"net": (0,)})
    assert [n.op for n in nothing.canonical(bare).graph()] == ["input"]
    assert nothing.cost(bare).params == (3 + 1) * 3  # mean over space, linear


def test_the_first_copy_has_what_first_says() -> None:
    space = space_of(
        {"name": "s", "repeat": 2, "nodes": [node("a", first={"stride": 2}), node("b", "sepconv", kernel=3, width=4)]},
        node("c", repeat=3, first={"op": "mbconv", "expand": 2}),
    )  # fmt: skip
    graph = space.sample(np.random.default_rng(0)).graph().nodes[1:]
    assert [(space.names[n.id], n.op, n["stride"]) for n in graph] == [
        ("s.1.a", "conv", 2), ("s.1.b", "sepconv", 1), ("s.2.a", "conv", 1), ("s.2.b", "sepconv", 1),
        ("c.1", "mbconv", 1), ("c.2", "conv", 1), ("c.3", "conv", 1),
    ]  # fmt: skip


def test_an_edited_architecture_names_node_and_rule() -> None:
    space = TestBranches().make()
    rng = np.random.default_rng(0)
    arch = next(a for a in iter(lambda: space.sample(rng), None) if a.graph().output.op == "left_out")

    def edited(number: int, **change: Any) -> Architecture:
        data = arch.to_dict()
        data["graphs"][0]["nodes"][number] |= change
        return Architecture.from_dict(data)

    stem = arch.graph().nodes[1]
    for change, message in [
        (
            edited(1, params=dict(stem.params) | {"width": 5}),
            r"node 1 \(conv\): \$width must be one of \(4, 6\)",
        ),
        (
            edited(1, params=dict(stem.params) | {"kernel": 5}),
            r"node 1 \(conv\): space 'template' writes 'conv' here",
        ),
        (edited(2, op="concat"), r"node 2 \(concat\): a.op must be one of \('conv', .* but got 'concat'"),
        (edited(3, inputs=[0]), r"node 3 .*its inputs must be one of \['stem', 'a'\], but got \(0,\)"),
        (edited(9, op="skip"), r"node \d+ \(skip\): space 'template' writes"),
        (edited(9, params={"place": 4}), r"node \d+ \(left_out\): "),
        (edited(9, params={}), r"parameter 'place' is missing"),
    ]:
        with pytest.raises(InvalidArchitecture, match=message):
            space.check(change)
    data = arch.to_dict()
    data["graphs"][0]["nodes"].pop()
    with pytest.raises(InvalidArchitecture, match="'se' of the template must follow, but nothing does"):
        space.check(Architecture.from_dict(data))


# --- a published space as a template -----------------------------------------------------------------


class MacroTemplate(TemplateSpace):
    """NAS-Bench-Macro with operations of its own: the two MBConvs."""

    operations: ClassVar = {
        **TemplateSpace.operations,
        **{
            f"mb{k}{e}": Operation(
                ("stride", "width"), lambda b, p, k=k, e=e: BLOCKS["mbconv"].emit(b, {**p, "kernel": k, "expand": e})
            )
            for k, e in ((3, 3), (5, 6))
        },
    }  # fmt: skip


def test_nasbench_macro_as_a_template() -> None:
    """6,561 written forms are 3,969 networks (Su et al. 2021), of the same cost as the space's own."""
    ops = ("identity", "mb33", "mb56")
    space = MacroTemplate(
        (3, 32, 32),
        10,
        [
            node("stem", width=32),
            *(node(f"block{i}", choice(*ops), **dict(place)) for i, place in enumerate(PLACES)),
            node("head", kernel=1, width=1280),
        ],
    )
    assert space.size() == 3**8
    own = NASBenchMacroSpace()
    keys = set()
    for number, digits in enumerate(product(DIGITS, repeat=8)):
        arch = space.architecture({"net": tuple(ops[int(digit)] for digit in digits)})
        keys.add(space.canonical(arch).key)
        if number % 41 == 0:
            assert space.cost(arch) == own.cost(own.decode("".join(digits)))
    assert len(keys) == 3969


# --- what is refused ---------------------------------------------------------------------------------

C = node("c")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "nodes must be one or more tables, but got \\[\\]"),
        ("c", "nodes must be one or more tables, but got 'c'"),
        (["c"], "nodes must be tables, but number 1 is 'c'"),
        ([{"name": "c"}], "node 'c': it must have an `op`, or `nodes` if it is a group"),
        ([{"op": "conv", "nodes": [C]}], "node 'node1': it must have `op` or `nodes`, but got both"),
        ([node("c", "convv")], "node 'c': op must be one of conv, sepconv, .* but got 'convv'; did you mean 'conv'"),
        ([node("c", "left_out")], "node 'c': op must be one of .* but got 'left_out'"),
        ([node("c", choice("conv", 3), kernel=3, width=4)], "node 'c': op must be one of .* but got 3"),
        ([C, C], "node 'c': names must differ, but 'c' is there already"),
        ([node("input")], "begin with a letter and not be 'input', but number 1 has 'input'"),
        ([node("1")], "begin with a letter .* but number 1 has '1'"),
        ([node(3)], "number 1 has 3"),
        ([C, node("d", inputs="cc")], "node 'd': inputs: must be one of input, c, but got 'cc'; did you mean 'c'"),
        ([node("c", inputs="d"), node("d")], "node 'c': inputs must stand before it .*no cycles.*, but 'd' does not"),
        ([node("c", inputs="c")], "node 'c': inputs must stand before it .* but 'c' does not"),
        ([node("c", inputs=3)], "node 'c': inputs must be a name, a list of names or { choice = "),
        ([node("c", inputs=[])], "node 'c': inputs must be a name, a list"),
        ([node("c", inputs=choice("input", ["input"]))], "node 'c': inputs must be a choice of different ones"),
        ([node("c", inputs=choice())], r"node 'c': inputs: a choice must be written { choice = \[...\] } with one"),
        ([node("c", kernel=choice())], "node 'c': kernel: a choice must be written .* with one or more values"),
        ([node("c", kernel={"choices": [3]})], "node 'c': kernel: a choice must be written { choice = "),
        ([node("c", kernel=[3, 5])], r"kernel must be one value or { choice = \[...\] }, but got the list \[3, 5\]"),
        ([node("c", kernel=choice(3, 3))], r"node 'c': kernel must be a choice of different values, but got \[3, 3\]"),
        ([node("c", kernel=choice([3], [5]))], r"kernel must be a number, a text or true or false, but got \[3\]"),
        ([node("c", kernel=3.0)], "node 'c': kernel of conv must be a positive whole number, but got 3.0"),
        ([node("c", kernel=choice(3, 0))], "node 'c': kernel of conv must be a positive whole number, but got 0"),
        ([node("c", kernel=True)], "kernel of conv must be a positive whole number, but got True"),
        ([node("c", kernal=3)], "node 'c': conv has no `kernal`: a key must be one of kernel, .* mean 'kernel'"),
        ([node("c", expand=choice(2, 4))], "node 'c': conv has no `expand`"),
        ([node("c", choice("conv", "sepconv"), kernel=3, width=4, expand=2)], "conv or sepconv has no `expand`"),
        ([node("c", "sepconv", width=4)], "node 'c': sepconv must have `kernel`, but none is given"),
        ([node("c", choice("conv", "mbconv"), kernel=3, width=4)], "node 'c': mbconv must have `expand`"),
        ([node("c", "activation", kind="rely")], "kind of activation must be one of relu, .* did you mean 'relu'"),
        ([node("c", width="$w")], "node 'c': width = '\\$w': must be one of nothing, but got 'w' of the choices"),
        ([node("c", optional=1)], "node 'c': optional must be true or false, but got 1"),
        ([node("c", optional=True, repeat=2)], "node 'c': it must be optional or repeated"),
        ([node("c", repeat=0)], r"node 'c': repeat must be whole numbers from 0, not only 0, but got \[0\]"),
        ([node("c", repeat=choice(1, -1))], r"repeat must be whole numbers .* but got \[1, -1\]"),
        ([node("c", repeat=choice(1, 2.0))], r"repeat must be whole numbers .* but got \[1, 2.0\]"),
        ([C, node("d", "add", inputs=["c", "input"], repeat=2)], "what is repeated must have one input, but got 2"),
        ([C, node("d", inputs=choice("c", "input"), optional=True)], "what may be left out must have fixed inputs"),
        ([C, {"nodes": [node("d")], "inputs": ["c", "input"]}], "node 'node2': a group must have one fixed input"),
        ([{"nodes": [C], "kernel": 3}], "node 'node1': a group has no `kernel`"),
        ([{"name": "g", "nodes": []}], r"node 'g': nodes must be one or more tables, but got \[\]"),
        ([C, {"name": "g", "nodes": [node("d", inputs="c")]}], "node 'g.d': inputs: must be one of input, but got 'c'"),
        ([{"name": "g", "nodes": [C], "repeat": 2}, node("d", inputs="c")], "node 'd': inputs: must be one of input, g"),
        ([node("c", first={"stride": 2})], "node 'c': first needs a `repeat`, of the node or of a group around it"),
        ([node("c", repeat=2, first={"inputs": "input"})], "first must be a table of parameters"),
        ([node("c", repeat=2, first={"strid": 2})], "node 'c.1': conv has no `strid`"),
        # shapes
        ([node("c", kernel=4)], r"no combination of choices fits: node 'c' \(conv\): kernel must be odd, but got 4"),
        ([node("c", kernel=choice(3, 4))], r"c.kernel = 4 fits in none of 10000 .* node 'c' \(conv\): kernel must be odd"),
        ([C, node("d", inputs=["c", "input"])], r"node 'd' \(conv\): it must have 1 input\(s\), but got 2"),
        ([C, node("d", "add", inputs=["c", "input"])], r"node 'd' \(add\): added shapes must be equal, but got"),
        ([C, node("d", "add", inputs=choice(["c", "c"], ["c", "input"]))],
         r"d.inputs = 'c, input' fits in none of 10000 combinations drawn: node 'd' \(add\): added shapes"),
        ([node("c", width=choice(3, 4)), node("d", "add", inputs=["c", "input"])], "c.width = 4 fits in none of"),
        ([node("c", repeat=4, stride=2)], r"node 'c.4' \(conv\): a side must be at least the stride \(2\)"),
        ([node("c", repeat=choice(3, 4), stride=2)], "c.repeat = 4 fits in none of 10000"),
        ([node("c", "max_pool", kernel=10)], r"node 'c' \(max_pool\): a side must be at least the pooling's kernel"),
        ([node("c", "dense", width=4), node("d")], r"node 'd' \(conv\): it must read \(channels, sides…\)"),
        ([node("c", "dense", width=4), node("d", "avg_pool", kernel=3)], r"'d' \(avg_pool\): it must read \(channels"),
        ([node("c", "dense", width=4), node("d", "global_pool")], r"node 'd' \(global_pool\): it must read \(channels"),
    ],
)  # fmt: skip
def test_what_cannot_be_names_node_and_rule(nodes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemplateSpace((3, 8, 8), 10, nodes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"choices": {"w": [4]}}, "choices must come with nodes"),
        ({"nodes": [C], "choices": {"w": [4]}}, "choices: each must be named by a node, but \\$w is not"),
        (
            {"nodes": [C], "choices": {"w": []}},
            r"choices: w must be a list of one or more values, but got \[\]",
        ),
        ({"nodes": [C], "choices": {"w": 4}}, "choices: w must be a list of one or more values, but got 4"),
        ({"nodes": [C], "choices": [4]}, "choices must be a table of lists"),
        (
            {"nodes": [node("c", width="$with")], "choices": {"width": [4]}},
            "got 'with' of the choices|mean 'width'",
        ),
        ({"nodes": [C], "crossover": "both"}, "crossover must be one of"),
        ({"nodes": [C], "input_shape": (3, 8, 8, 8)}, "input_shape must be"),
        ({"nodes": [C], "classes": 1}, "`classes >= 2` must hold"),
    ],
)
def test_senseless_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TemplateSpace(**arguments)


def test_a_choice_of_one_is_a_fixed_value() -> None:
    space = space_of(node("a", kernel=choice(3), width="$w"), w=[4])
    assert space.genes["net"] == ()


# --- files and studies -------------------------------------------------------------------------------


def test_a_template_file_gives_nodes_and_choices(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text(EXAMPLE)
    space, default = TemplateSpace((3, 12, 12), **read_template(path)), TemplateSpace((3, 12, 12))
    draw = [s.sample(np.random.default_rng(0)) for s in (space, default)]
    assert draw[0] == draw[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "template file .*net.toml must be readable, but"),
        ("[[nodes]\n", r"template file .*net.toml must be TOML, but: .* \(at line 1"),
        ("", r"template file .*net.toml must hold \[\[nodes\]\], .* but it holds nothing"),
        ("[space]\nname = 'template'", "but it holds space"),
        ("node = 3\n[[nodes]]\nop = 'skip'", "but it holds node, nodes"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "net.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_template(path)


def test_a_study_in_memory() -> None:
    space = TemplateSpace((1, 8, 8))
    objectives = [Objective("error"), Objective("params", exact=lambda arch, space: space.cost(arch).params)]
    study = Study.in_memory(space, objectives, RegularizedEvolution(population=4, sample=2), seed=0)
    for _ in range(12):
        trial = study.ask()
        assert isinstance(trial, Trial)
        study.tell(trial, {"error": float(len(trial.architecture.graph()))})
    assert len(study.trials) == 12
    assert len({space.canonical(trial.architecture).key for trial in study.trials}) == 12


def test_a_space_goes_to_another_process() -> None:
    space = TemplateSpace()
    space.cost(space.sample(np.random.default_rng(0)))
    other = pickle.loads(pickle.dumps(space))  # noqa: S301
    assert other.sample(np.random.default_rng(1)) == space.sample(np.random.default_rng(1))


STUDY = f"""
[space]
name = "{NAME}"

[space.choices]
width = [4, 6]

[[space.nodes]]
name = "stem"
op = "conv"
kernel = 3
width = "$width"

[[space.nodes]]
name = "stage"
repeat = {{ choice = [1, 2] }}

    [[space.nodes.nodes]]
    op = {{ choice = ["conv", "sepconv"] }}
    kernel = 3
    width = "$width"
    first = {{ stride = 2 }}

[searcher]
name = "random"

[data]
name = "digits"
limit = 300

[hyperband]
max_epochs = 1

[run]
trials = 2
workers = 1
"""


def test_a_study_keeps_its_template(tmp_path: Path) -> None:
    """Trained in a worker, opened again, gone on with: nothing but the study's folder is needed."""
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    with Study.create(tmp_path / "study", path) as study:
        study.run()
        before = [(trial.architecture, dict(trial.values)) for trial in study.trials]
        assert len(before) == 2
        assert all(trial.ok for trial in study.trials)
    path.unlink()
    with Study.open(tmp_path / "study") as study:
        assert [(trial.architecture, dict(trial.values)) for trial in study.trials] == before
        for trial in study.trials:
            study.space.check(trial.architecture)
        study.run(3)
        assert len(study.trials) == 3


def test_a_study_file_with_a_template_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    settings = read_settings(path)
    path.write_text(settings_to_toml(settings))
    assert read_settings(path) == settings
    assert settings.space.options["nodes"] == tomllib.loads(STUDY)["space"]["nodes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes": "net.toml"}, "`nodes` must be a list"),
        ({"nodes": ["net"]}, r"`nodes\[0\]` must be a table, but got 'net'"),
        ({"node": []}, "has no option 'node', .* did you mean 'nodes'"),
        ({"choices": [4]}, "`choices` must be a table"),
        ({"nodes": [{"op": "convv"}]}, "node 'node1': op must be one of conv, "),
    ],
)
def test_a_study_refuses_a_wrong_template(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        Study.create(tmp_path / "study", tables() | {"space": {"name": NAME, **options}})
