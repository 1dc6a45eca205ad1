"""NAS-Bench-Macro (Su et al. 2021, "Prioritized Architecture Sampling with Monto-Carlo Tree Search").

Eight blocks in stages of 2, 3 and 3; digit 0 is identity, 1 an MBConv with kernel 3 and expansion 3, 2 one
with kernel 5 and expansion 6. Stem 3x3 convolution to 32; widths 64, 128, 256, each stage's first block
with stride 2 (its identity is a 1x1 convolution); head 1x1 convolution to 1280, pool, linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node
from search_spaces.fragments import Builder, Shape
from search_spaces.graph_space import INPUT, GraphSpace
from search_spaces.operations import BLOCKS
from search_spaces.plan import Placed

STAGES = (2, 3, 3)
WIDTHS = (64, 128, 256)
STEM, HEAD = 32, 1280
PLACES = tuple(
    (width, 2 if index == 0 else 1)
    for blocks, width in zip(STAGES, WIDTHS, strict=True)
    for index in range(blocks)
)
"""(width, stride) of the eight places."""

MBCONVS = {"1": (3, 3), "2": (6, 5)}
"""Digit -> (expand, kernel)."""
DIGITS = "012"


@lru_cache(maxsize=65536)
def _block(node_id: int, source: int, place: int, digit: str) -> Node:
    width, stride = PLACES[place]
    if digit == "0":
        return Node(node_id, "identity", (source,), (("stride", stride), ("width", width)))
    expand, kernel = MBCONVS[digit]
    return Node(
        node_id,
        "mbconv",
        (source,),
        (("expand", expand), ("kernel", kernel), ("stride", stride), ("width", width)),
    )


def _architecture(digits: str, ids: Sequence[int]) -> Architecture:
    """The eight digits with the ids of the input node and of the eight blocks."""
    nodes = [Node(ids[0], INPUT)]
    for place, (digit, node_id) in enumerate(zip(digits, ids[1:], strict=True)):
        nodes.append(_block(node_id, nodes[-1].id, place, digit))
    return Architecture(NASBenchMacroSpace.name, (("net", Graph(tuple(nodes))),))


def _digit(nodes: tuple[Node, ...], place: int) -> str:
    """The digit of one place; raises `InvalidArchitecture` if the space would not write it so."""
    before, node = nodes[place : place + 2]
    for digit in DIGITS:
        block = _block(node.id, before.id, place, digit)
        if node is block or node == block:
            return digit
    width, stride = PLACES[place]
    raise InvalidArchitecture(
        f"node {node.id} ({node.op}): block {place} must follow node {before.id} as identity, "
        f"MBConv k3 e3 or MBConv k5 e6 with width {width} and stride {stride}, but got "
        f"inputs {node.inputs} and {dict(node.params)}"
    )


def _with_block(arch: Architecture, place: int, digit: str) -> Architecture:
    """`arch` with another block at one place; all ids stay."""
    nodes = arch.graph().nodes
    before, old = nodes[place : place + 2]
    block = _block(old.id, before.id, place, digit)
    return Architecture(arch.space, (("net", Graph((*nodes[: place + 1], block, *nodes[place + 2 :]))),))


class NASBenchMacroSpace(GraphSpace):
    """6,561 written forms, 3,969 networks.

    Args:
        input_shape: (channels, height, width), sides at least 8.
        classes: number of classes.

    Example:
        >>> space = NASBenchMacroSpace()
        >>> cost = space.cost(space.decode("22212220"))
        >>> cost.params, cost.macs
        (1985514, 85164544)
    """

    name = "nasbench_macro"
    operations: ClassVar = {op: BLOCKS[op] for op in ("identity", "mbconv")}

    def __init__(self, input_shape: Shape = (3, 32, 32), classes: int = 10) -> None:
        super().__init__(input_shape, classes)
        if min(self.input_shape[1:]) < 2 ** len(STAGES):
            raise ValueError(
                f"the sides of input_shape must be at least {2 ** len(STAGES)}, but got {self.input_shape}"
            )

    def decode(self, text: str) -> Architecture:
        """The architecture of eight digits 0, 1, 2, e.g. "22212220".

        Raises:
            InvalidArchitecture: the text is no such string.
        """
        if len(text) != len(PLACES) or set(text) - set(DIGITS):
            raise InvalidArchitecture(f"a code must be {len(PLACES)} digits of {DIGITS}, but got {text!r}")
        return _architecture(text, range(len(PLACES) + 1))

    def code(self, arch: Architecture) -> str:
        """The eight digits of a written form.

        Raises:
            InvalidArchitecture: `arch` is not written as the space writes it; the node is named.
        """
        nodes = arch.graph().nodes
        if len(nodes) != len(PLACES) + 1:
            raise InvalidArchitecture(
                f"a written form must be an input node and {len(PLACES)} blocks, but got {len(nodes)} nodes"
            )
        if nodes[0] != Node(nodes[0].id, INPUT):
            raise InvalidArchitecture(
                f"node {nodes[0].id} ({nodes[0].op}): the first node must be the input, without parameters"
            )
        return "".join(_digit(nodes, place) for place in range(len(PLACES)))

    def size(self) -> int:
        """Number of written forms."""
        return int(len(DIGITS) ** len(PLACES))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Uniform over the written forms."""
        return self.decode("".join(DIGITS[i] for i in rng.integers(len(DIGITS), size=len(PLACES))))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One block becomes another one; its id stays."""
        place = int(rng.integers(len(PLACES)))
        others = DIGITS.replace(_digit(arch.graph().nodes, place), "")
        digit = others[int(rng.integers(len(others)))]
        return _with_block(arch, place, digit)

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """Two-point: the blocks between two cuts come from `b`; those that differ from `a`'s get new ids."""
        first, last = sorted(int(i) for i in rng.choice(len(PLACES) + 1, size=2, replace=False))
        ids, others = self._ids(a), self._ids(b)
        free = (i for i in count() if i not in ids and i not in others)
        mine, theirs = self.code(a), self.code(b)
        digits, kept = list(mine), list(ids)  # the input has the first id
        for place in range(first, last):
            if mine[place] != theirs[place]:
                digits[place], kept[place + 1] = theirs[place], next(free)
        return _architecture("".join(digits), kept)

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """The sixteen architectures one digit away."""
        digits = self.code(arch)
        return [
            _with_block(arch, place, digit)
            for place in range(len(PLACES))
            for digit in DIGITS
            if digit != digits[place]
        ]

    def encode(self, arch: Architecture) -> NDArray[np.float64]:
        """One-hot digits, `float64[24]`."""
        digits = np.array([DIGITS.index(digit) for digit in self.code(arch)])
        return np.asarray(np.eye(len(DIGITS))[digits].ravel(), dtype=np.float64)

    def check_form(self, arch: Architecture) -> None:
        self.code(arch)

    def input_shapes(self, graph: str) -> tuple[Shape, ...]:
        return ((STEM, *self.input_shape[1:]),)

    def plan(self, arch: Architecture) -> list[Placed]:
        def head(b: Builder) -> None:
            x = b.conv_bn_relu("expand", -1, HEAD, 1)
            b.linear("linear", b.flatten("flatten", b.global_pool("pool", x)), self.classes)

        plan: list[Placed] = []
        stem = self.place(plan, "stem", -1, lambda b: b.conv_bn_relu("block", -1, STEM, 3))
        self.place(plan, "head", self.place_graph(plan, arch.graph(), "net", (stem,)), head)
        return plan

    @staticmethod
    def _ids(arch: Architecture) -> tuple[int, ...]:
        return tuple(node.id for node in arch.graph())
