"""NASNet's space (Zoph, Vasudevan, Shlens & Le 2018, section 3), searched by AmoebaNet, PNAS, NSGA-Net too.

A cell has two inputs and B blocks. Each block reads two of the states before it through an op each and
combines them; the output is the states that no block reads, side by side. State 0 is the output of the
previous cell, 1 that of the one before it, 2 to B + 1 are the blocks. Networks are stacked as by
tensorflow/models, research/slim/nets/nasnet.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, ClassVar

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node, Scalar
from search_spaces.cell_ops import IDENTITY, MATCH, SKIP, convolutions, pooling, separable, thin_convolutions
from search_spaces.fragments import Builder, Shape
from search_spaces.genes import Gene, Values
from search_spaces.graph_space import INPUT, Site
from search_spaces.operations import JOINS, Operation
from search_spaces.plan import Placed
from search_spaces.stacking import (
    CELLS,
    CIFAR,
    IMAGENET,
    INPUTS,
    REDUCTION,
    STEM,
    Copy,
    StackedSpace,
    staged,
    state_read,
)

OPS = (
    *("id", "conv1x3", "conv1x7", "dil3", "avg3", "max3", "max5", "max7"),
    *("conv1", "conv3", "sep3", "sep5", "sep7"),
)
"""The 13 ops of Zoph et al. 2018, section 3.1: identity, 1x3 then 3x1 and 1x7 then 7x1 convolution, 3x3
dilated convolution, poolings, 1x1 and 3x3 convolution, depthwise-separable convolutions (twice)."""

PNAS_OPS = ("sep3", "sep5", "sep7", "conv1x7", "id", "avg3", "max3", "dil3")
"""The 8 ops of PNAS (Liu et al. 2018, section 3.1). It combines by addition only."""

NSGANET_OPS = ("max3", "avg3", "skip", "sep3", "sep5", "dilsep3", "dilsep5", "sep7", "thin1x7")
"""The 9 ops of NSGA-Net's micro space in the order of its digits (Lu et al. 2019; ianwhale/nsga-net,
search/micro_encoding.py): DARTS's, and two separable ones more. It combines by addition only, and cell
inputs that no block reads are no part of the output (`output="blocks"`)."""

CHOICES = (*OPS, "skip", "dilsep3", "dilsep5", "thin1x7")
"""The ops that a block can have."""

COMBINE = {"add": "+", "concat": "&"}
"""The ways to combine, and their signs in codes."""

OUTPUTS = ("unread", "blocks", "listed")
"""Which states make the output: all that no block reads (Zoph et al., section 3.1), those of them that are
blocks, or all that no block reads and any others."""

NASNET_A = (
    "sep5:0+sep3:1 sep5:1+sep3:1 avg3:0+id:1 avg3:1+avg3:1 sep3:0+id:0 -> 1 2 3 4 5 6 / "
    "sep5:0+sep7:1 max3:0+sep7:1 avg3:0+sep5:1 id:3+avg3:2 sep3:2+max3:0 -> 3 4 5 6"
)
"""NASNet-A (Zoph et al. 2018, figure 4), normal / reduction cell. Its outputs hold states that are read, 1
and 3 (`used_hiddenstates` in nasnet_utils.py): an architecture of spaces with `output="listed"`."""

AMOEBANET_A = (
    "avg3:0+max3:0 sep3:1+id:1 id:0+avg3:1 sep3:0+sep5:2 avg3:5+sep3:0 -> 1 3 4 6 / "
    "sep3:1+avg3:0 max3:0+sep7:2 max3:1+max3:0 sep3:4+conv1x7:0 avg3:1+sep7:0 -> 2 3 4 5 6"
)
"""AmoebaNet-A (Real et al. 2019, figure 5; tensorflow/tpu, models/official/amoeba_net/model_specs.py),
likewise."""

HALVINGS = {CIFAR: 2, IMAGENET: 5}
LEAST_FILTERS = {CIFAR: 2, IMAGENET: 8}
IMAGENET_STEM = 32

BLOCK = re.compile(r"(\w+):(0|[1-9][0-9]*)([+&])(\w+):(0|[1-9][0-9]*)")
SIGNS = {sign: name for name, sign in COMBINE.items()}


def _head(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.flatten("flatten", b.global_pool("pool", b.relu("relu", -1)))
    b.linear("linear", x, p["classes"])


HEAD = Operation(("classes",), _head)
"""ReLU, mean over space, linear."""


class NASNetSpace(StackedSpace):
    """Cells of B blocks of two states, two ops and a way to combine them.

    Published networks of `NASNET_A`, all with `output="listed"`: 6 @ 768 for CIFAR-10 is `cells=6,
    filters=32`; mobile 4 @ 1056 is `template="imagenet", cells=4, filters=44`; large 6 @ 4032 is
    `template="imagenet", cells=6, filters=168, stem=96, skip_reduction_layer_input=True`.

    Args:
        input_shape: (channels, height, width), sides at least 4 for "cifar", 32 for "imagenet".
        classes: number of classes.
        template: "cifar" or "imagenet", whose stem is a convolution with stride 2 and two reduction cells.
        cells: N, the normal cells of each of the three stages; between stages stands a reduction cell.
        filters: channels of a node in the first stage; at least 2 for "cifar", 8 for "imagenet".
        stem: channels of the first convolution; 0 for 3 x filters ("cifar") or 32 ("imagenet").
        skip_reduction_layer_input: whether the normal cell behind a reduction cell reads as state 1 what
            the reduction cell reads as state 1, instead of what it reads as state 0.
        blocks: B.
        ops: the ops to choose from, of `CHOICES`.
        combine: the ways to combine, of "add" and "concat".
        output: which states make the output, see `OUTPUTS`.
        crossover: its kind, see `search_spaces.crossover`.

    Example:
        >>> space = NASNetSpace((3, 224, 224), 1000, "imagenet", cells=4, filters=44, output="listed")
        >>> space.cost(space.decode(NASNET_A)).params
        5289978
    """

    name = "nasnet"
    operations: ClassVar = {
        "id": IDENTITY,
        "conv1x3": convolutions((1, 3), (3, 1), share=3 / 8),
        "conv1x7": convolutions((1, 7), (7, 1), share=1 / 4),
        "dil3": convolutions((3, 3), share=1 / 4, dilation=2),
        "avg3": pooling("avg_pool", 3),
        "max3": pooling("max_pool", 3),
        "max5": pooling("max_pool", 5),
        "max7": pooling("max_pool", 7),
        "conv1": convolutions((1, 1)),
        "conv3": convolutions((3, 3), share=1 / 4),
        "sep3": separable(3),
        "sep5": separable(5),
        "sep7": separable(7),
        "skip": SKIP,
        "dilsep3": separable(3, layers=1, dilation=2),
        "dilsep5": separable(5, layers=1, dilation=2),
        "thin1x7": thin_convolutions(7),
        "match": MATCH,
        "add": JOINS["add"],
        "concat": JOINS["concat"],
    }

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        template: str = CIFAR,
        cells: int = 2,
        filters: int = 16,
        stem: int = 0,
        skip_reduction_layer_input: bool = False,
        blocks: int = 5,
        ops: Sequence[str] = OPS,
        combine: Sequence[str] = tuple(COMBINE),
        output: str = OUTPUTS[0],
        crossover: str = "uniform",
    ) -> None:
        if any(type(n) is not int for n in (cells, stem, blocks)) or min(cells, blocks) < 1 or stem < 0:
            raise ValueError(
                "`cells >= 1, blocks >= 1 and stem >= 0` must hold, all integers, but got "
                f"{cells=}, {blocks=}, {stem=}"
            )
        for argument, chosen, known in (("ops", ops, CHOICES), ("combine", combine, tuple(COMBINE))):
            if not chosen or len(set(chosen)) < len(chosen) or set(chosen) - set(known):
                raise ValueError(f"{argument} must be different ones of {known}, but got {list(chosen)}")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {OUTPUTS}, but got {output!r}")
        self.blocks, self.output = blocks, output
        genes = {graph: [*self._genes(graph, tuple(ops), tuple(combine))] for graph in CELLS}
        super().__init__(input_shape, classes, genes, crossover, template, HALVINGS)
        if type(filters) is not int or filters < LEAST_FILTERS[template]:
            raise ValueError(
                f"`filters >= {LEAST_FILTERS[template]}` must hold for template {template!r}, but got "
                f"{filters=}"
            )
        self.cells, self.filters = cells, filters
        self.stem_width = stem or (3 * filters if template == CIFAR else IMAGENET_STEM)
        self.stack = staged(3 * cells + 2, (cells, 2 * cells + 1), filters, skip_reduction_layer_input)
        if template == IMAGENET:
            self.stack = (Copy(REDUCTION, filters // 4), Copy(REDUCTION, filters // 2), *self.stack)

    # --- genes -------------------------------------------------------------------------------------

    def _genes(self, graph: str, ops: tuple[str, ...], combine: tuple[str, ...]) -> Iterator[Gene]:
        for block in range(self.blocks):
            for side in ("left", "right"):
                yield Gene(f"{graph} block {block} {side} op", ops)
                yield Gene(f"{graph} block {block} {side} state", tuple(range(block + 2)))
            yield Gene(f"{graph} block {block} combination", combine)
        if self.output == "listed":
            for state in range(1 + self.blocks):  # the last one is never read
                yield Gene(f"{graph} output has {state}", (True, False))

    def _blocks(self, values: Values) -> Iterator[Values]:
        """(left op, left state, right op, right state, combination) of each block."""
        for start in range(0, 5 * self.blocks, 5):
            yield values[start : start + 5]

    def _unread(self, values: Values) -> list[int]:
        end = 5 * self.blocks
        read = {*values[1:end:5], *values[3:end:5]}
        return [state for state in range(2 + self.blocks) if state not in read]

    def _joined(self, values: Values) -> list[int]:
        """The states that make the output."""
        if self.output == "listed":
            unread = self._unread(values)
            chosen = (*values[5 * self.blocks :], True)
            return [state for state, has in enumerate(chosen) if has or state in unread]
        return [state for state in self._unread(values) if state >= 2 or self.output == "unread"]

    def active(self, graph: str, values: Values) -> Sequence[bool] | None:
        """What no block reads is part of the output, chosen or not."""
        if self.output != "listed":
            return None
        unread = self._unread(values)
        return [True] * (5 * self.blocks) + [state not in unread for state in range(1 + self.blocks)]

    def graph_size(self, graph: str) -> int:
        if self.output != "listed":
            return super().graph_size(graph)
        reads = Counter({frozenset[int](): 1})  # how many choices of states read just these
        for block in range(self.blocks):
            longer: Counter[frozenset[int]] = Counter()
            for read, ways in reads.items():
                for pair in product(range(block + 2), repeat=2):
                    longer[read.union(pair)] += ways
            reads = longer
        others = [gene for gene in self.genes[graph][: 5 * self.blocks] if not gene.name.endswith("state")]
        size = prod(len(gene.choices) for gene in others)
        return size * sum(ways << len(read) for read, ways in reads.items())

    # --- codes -------------------------------------------------------------------------------------

    def decode(self, text: str) -> Architecture:
        """The architecture of a code like `NASNET_A`: the normal cell, "/", the reduction cell.

        A cell is its blocks, "op:state+op:state" where one adds, "op:state&op:state" where it concatenates;
        then, unless it is all that no block reads, "->" and the states that make the output.

        Raises:
            InvalidArchitecture: the text is no such code, or of another space.
        """
        cells = text.split("/")
        if len(cells) != len(CELLS):
            raise InvalidArchitecture(f"a code must be two cells with '/' between them, but got {text!r}")
        return self.architecture(
            {graph: self._decoded(graph, cell) for graph, cell in zip(CELLS, cells, strict=True)}
        )

    def _decoded(self, graph: str, text: str) -> Values:
        cell, arrow, states = text.partition("->")
        blocks = cell.split()
        if len(blocks) != self.blocks:
            raise InvalidArchitecture(
                f"the {graph} cell must have {self.blocks} blocks, but got {len(blocks)} in {text.strip()!r}"
            )
        values: list[Scalar] = []
        for block in blocks:
            match = BLOCK.fullmatch(block)
            if match is None:
                raise InvalidArchitecture(
                    f"a block must be op:state+op:state or op:state&op:state, but got {block!r}"
                )
            left_op, left, sign, right_op, right = match.groups()
            values += (left_op, int(left), right_op, int(right), SIGNS[sign])
        for gene, value in zip(self.genes[graph], values, strict=False):
            gene.index(value)
        joined = states.split() if arrow else [str(state) for state in self._unread(tuple(values))]
        if self.output == "listed":
            values += [str(state) in joined for state in range(1 + self.blocks)]
        wanted = [str(state) for state in self._joined(tuple(values))]
        if arrow and joined != wanted:
            raise InvalidArchitecture(
                f"with output={self.output!r} the output of the {graph} cell must be the states "
                f"{' '.join(wanted)}, but got {' '.join(joined)}"
            )
        return tuple(values)

    def code(self, arch: Architecture) -> str:
        """The code of a written form; raises `InvalidArchitecture` as `check_form` does."""
        cells = []
        for values in self.values(arch).values():
            words = [
                f"{left_op}:{left}{COMBINE[str(combine)]}{right_op}:{right}"
                for left_op, left, right_op, right, combine in self._blocks(values)
            ]
            joined = self._joined(values)
            if joined != self._unread(values):
                words += ["->", *map(str, joined)]
            cells.append(" ".join(words))
        return " / ".join(cells)

    # --- the written form --------------------------------------------------------------------------

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        states = [0, 1]  # ids of the states
        for state in states:
            yield Node(state, INPUT, (), INPUTS[state])
        for left_op, left, right_op, right, combine in self._blocks(values):
            new = 3 * len(states) - 4
            yield Node(new, str(left_op), (states[int(left)],))
            yield Node(new + 1, str(right_op), (states[int(right)],))
            yield Node(new + 2, str(combine), (new, new + 1))
            states.append(new + 2)
        joined = []
        for state in self._joined(values):
            if state < 2:
                joined.append(3 * self.blocks + 2 + state)
                yield Node(joined[-1], "match", (state,))
            else:
                joined.append(states[state])
        yield Node(3 * self.blocks + 4, "concat", tuple(joined))

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[Scalar]:
        states = {nodes[0].id: 0, nodes[1].id: 1}
        for block in range(self.blocks):
            for place in (2 + 3 * block, 3 + 3 * block):
                node = nodes[place]
                yield node.op
                yield state_read(node, states)
            combine = nodes[4 + 3 * block]
            yield combine.op
            states[combine.id] = 2 + block
        if self.output == "listed":
            matched = {node.id: node.inputs[0] for node in nodes[2 + 3 * self.blocks : -1]}
            joined = {matched.get(source, source) for source in nodes[-1].inputs}
            for node_id in list(states)[:-1]:
                yield node_id in joined

    # --- the network -------------------------------------------------------------------------------

    def site(self, graph: str) -> Site:
        """The second input is of another width: in the first cell it is the stem."""
        sides = self.input_shape[1:]
        inputs = ((self.filters, *sides), (2 * self.filters, *sides))
        return Site(inputs, self.filters, 2 if graph == REDUCTION else 1)

    def stem(self, plan: list[Placed]) -> tuple[int, int]:
        stride = 1 if self.template == CIFAR else 2
        stem = self.place(plan, "stem", STEM, -1, stride=stride, width=self.stem_width)
        return stem, stem

    def feed(
        self, plan: list[Placed], name: str, graph: Graph, before: int, last: int, width: int
    ) -> tuple[int, int]:
        """State 1 is taken as it is by the first cell, and where it fits."""
        read = {source for node in graph for source in node.inputs}
        first, second = (node.id in read for node in graph.nodes[:2])
        fitting = self.shape(plan, before) == (width, *self.shape(plan, last)[1:])
        newer = self.prepare(plan, f"{name}.pre0", last, last, width) if first else last
        if second and before != last and not fitting:
            before = self.prepare(plan, f"{name}.pre1", before, last, width)
        return newer, before

    def head(self, plan: list[Placed], last: int) -> None:
        self.place(plan, "head", HEAD, last, classes=self.classes)
