"""NAS-Bench-201 (Dong & Yang 2020): a cell of four nodes, each pair joined by one of five ops.

A cell is six ops, for the edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3; each node sums what comes in. Fifteen copies
stand in three stages of 16, 32 and 64 channels, a residual block with stride 2 between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, InvalidArchitecture, Node
from search_spaces.encodings import paths
from search_spaces.fragments import Builder, Shape
from search_spaces.genes import Gene, GeneSpace, Values
from search_spaces.graph_space import INPUT, Encoding, Site
from search_spaces.operations import CLASSIFIER, JOINS, Operation
from search_spaces.plan import Placed

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The official names, in the order of the digits."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
STAGES = 3

EDGE_IDS = {edge: place + 1 for place, edge in enumerate(EDGES)}
SUM_IDS = {0: 0, 1: 7, 2: 8, 3: 9}
"""Natural ids: 0 is the input, 1-6 the ops, 7-9 the sums of nodes 1, 2, 3."""


def _residual(b: Builder, p: Mapping[str, Any]) -> None:
    """Basic residual block with stride 2; its shortcut averages, then convolves without batch norm."""
    x = b.relu_conv_bn("a", -1, p["width"], 3, 2)
    x = b.relu_conv_bn("b", x, p["width"], 3)
    shortcut = b.pool("shortcut.pool", -1, "avg_pool", 2, 2, pad=False, ceil=True)
    b.add("sum", (x, b.conv("shortcut.conv", shortcut, p["width"], 1)))


STEM = Operation(("width",), lambda b, p: b.conv_bn("block", -1, p["width"], 3))
RESIDUAL = Operation(("width",), _residual)
LAST = Operation((), lambda b, _: b.relu("relu", b.batch_norm("bn", -1)))


class NASBench201Space(GeneSpace):
    """15,625 written forms, 5,425 networks.

    Args:
        input_shape: (channels, height, width), sides at least 4.
        classes: number of classes.
        width: channels of the first stage.
        cells: copies of the cell in each stage.
        crossover: its kind, see `search_spaces.crossover`.

    Example:
        >>> space = NASBench201Space()
        >>> arch = space.decode("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
        ...                     "|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|")
        >>> space.code(arch), space.cost(arch).params
        ('333132', 1073466)
    """

    name = "nasbench201"
    operations: ClassVar = {
        "none": Operation((), lambda b, _: b.zero("zero", -1), zero=True),
        "skip_connect": Operation((), lambda b, _: None),
        "nor_conv_1x1": Operation((), lambda b, _: b.relu_conv_bn("block", -1, b.shape(-1)[0], 1)),
        "nor_conv_3x3": Operation((), lambda b, _: b.relu_conv_bn("block", -1, b.shape(-1)[0], 3)),
        "avg_pool_3x3": Operation((), lambda b, _: b.pool("pool", -1, "avg_pool", 3, 1)),
        "add": JOINS["add"],
    }

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        width: int = 16,
        cells: int = 5,
        crossover: str = "uniform",
    ) -> None:
        genes = [Gene(f"{source}>{target}", OPS) for source, target in EDGES]
        super().__init__(input_shape, classes, {"cell": genes}, crossover)
        if type(width) is not int or type(cells) is not int or width < 1 or cells < 1:
            raise ValueError(f"`width >= 1 and cells >= 1` must hold, but got {width=}, {cells=}")
        if min(self.input_shape[1:]) < 2 ** (STAGES - 1):
            raise ValueError(
                f"the sides of input_shape must be at least {2 ** (STAGES - 1)}, but got {self.input_shape}"
            )
        self.width, self.cells = width, cells

    def decode(self, text: str) -> Architecture:
        """The architecture of six digits, "333132", or of the official string, "|nor_conv_3x3~0|+|…".

        Raises:
            InvalidArchitecture: the text is neither.
        """
        if "|" in text:
            groups = [group.strip("|").split("|") for group in text.split("+")]
            written = [
                (op.rpartition("~")[0], (op.rpartition("~")[2], str(target)))
                for target, group in enumerate(groups, start=1)
                for op in group
            ]
            ops = tuple(op for op, _ in written)
            wanted = [(str(source), str(target)) for source, target in EDGES]
            right = [edge for _, edge in written] == wanted and not set(ops) - set(OPS)
        else:
            right = len(text) == len(EDGES) and not set(text) - set("01234")
            ops = tuple(OPS[int(digit)] for digit in text) if right else ()
        if not right:
            raise InvalidArchitecture(
                f"a code must be {len(EDGES)} digits of 01234 or |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with "
                f"ops of {OPS}, but got {text!r}"
            )
        return self.architecture({"cell": ops})

    def code(self, arch: Architecture) -> str:
        """The six digits of a written form; raises `InvalidArchitecture` as `check_form` does."""
        return "".join(str(OPS.index(str(op))) for op in self.values(arch)["cell"])

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        yield Node(SUM_IDS[0], INPUT)
        ops = dict(zip(EDGES, values, strict=True))
        for target in (1, 2, 3):
            for source in range(target):
                edge = (source, target)
                yield Node(EDGE_IDS[edge], str(ops[edge]), (SUM_IDS[source],))
            yield Node(SUM_IDS[target], "add", tuple([EDGE_IDS[i, target] for i in range(target)]))

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[str]:
        for place in (1, 3, 4, 6, 7, 8):  # between them stand the sums
            yield nodes[place].op

    def encodings(self) -> dict[str, Encoding]:
        return {**super().encodings(), "path": self._encode_paths}

    def _encode_paths(self, arch: Architecture) -> NDArray[np.float64]:
        """Which of the 1 + 4 + 16 + 64 paths of ops, none aside, lead from input to output: `float64[85]`."""
        self.check_form(arch)
        return paths(arch.graph("cell"), OPS[1:], len(SUM_IDS) - 1, zeros=OPS[:1])

    def site(self, graph: str) -> Site:
        return Site(((self.width, *self.input_shape[1:]),))

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        graph = arch.graph("cell")
        x = self.place(plan, "stem", STEM, -1, width=self.width)
        for stage in range(STAGES):
            if stage:
                x = self.place(plan, f"residual.{stage - 1}", RESIDUAL, x, width=self.width * 2**stage)
            for copy in range(self.cells):
                x = self.place_graph(plan, f"cell.{stage * self.cells + copy}", graph, (x,))
        x = self.place(plan, "last", LAST, x)
        self.place(plan, "head", CLASSIFIER, x, classes=self.classes)
        return plan
