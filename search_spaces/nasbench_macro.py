"""NAS-Bench-Macro (Su et al. 2021, "Prioritized Architecture Sampling with Monto-Carlo Tree Search").

Eight blocks in stages of 2, 3 and 3; digit 0 is identity, 1 an MBConv with kernel 3 and expansion 3, 2 one
with kernel 5 and expansion 6. Stem 3x3 convolution to 32; widths 64, 128, 256, each stage's first block
with stride 2 (its identity is a 1x1 convolution); head 1x1 convolution to 1280, pool, linear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from nas.architecture import Architecture, InvalidArchitecture, Node, Params
from search_spaces.fragments import Shape
from search_spaces.genes import Gene, GeneSpace, Values
from search_spaces.graph_space import INPUT, Site
from search_spaces.operations import BLOCKS, STEM, WIDE_CLASSIFIER
from search_spaces.plan import Placed

STAGES = (2, 3, 3)
WIDTHS = (64, 128, 256)
STEM_WIDTH, HEAD_WIDTH = 32, 1280
DIGITS = ("0", "1", "2")
MBCONVS = {"1": (("expand", 3), ("kernel", 3)), "2": (("expand", 6), ("kernel", 5))}

PLACES: tuple[Params, ...] = tuple(
    (("stride", 2 if index == 0 else 1), ("width", width))
    for blocks, width in zip(STAGES, WIDTHS, strict=True)
    for index in range(blocks)
)
"""Stride and width of the eight places."""

NODES = tuple(
    {
        digit: Node(place + 1, "mbconv", (place,), (*MBCONVS[digit], *params))
        if digit in MBCONVS
        else Node(place + 1, "identity", (place,), params)
        for digit in DIGITS
    }
    for place, params in enumerate(PLACES)
)
"""What a digit is at its place."""


class NASBenchMacroSpace(GeneSpace):
    """6,561 written forms, 3,969 networks.

    Args:
        input_shape: (channels, height, width), sides at least 8.
        classes: number of classes.
        crossover: its kind, see `search_spaces.crossover`.

    Example:
        >>> space = NASBenchMacroSpace()
        >>> cost = space.cost(space.decode("22212220"))
        >>> cost.params, cost.macs
        (1985514, 85164544)
    """

    name = "nasbench_macro"
    operations: ClassVar = {op: BLOCKS[op] for op in ("identity", "mbconv")}

    def __init__(
        self, input_shape: Shape = (3, 32, 32), classes: int = 10, crossover: str = "two_point"
    ) -> None:
        genes = [Gene(f"block {place}", DIGITS) for place in range(len(PLACES))]
        super().__init__(input_shape, classes, {"net": genes}, crossover)
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
            raise InvalidArchitecture(f"a code must be {len(PLACES)} digits of 012, but got {text!r}")
        return self.architecture({"net": tuple(text)})

    def code(self, arch: Architecture) -> str:
        """The eight digits of a written form.

        Raises:
            InvalidArchitecture: `arch` is not written as the space writes it; the node is named.
        """
        return "".join(map(str, self.values(arch)["net"]))

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        yield Node(0, INPUT)
        for nodes, digit in zip(NODES, values, strict=True):
            yield nodes[str(digit)]

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[str]:
        for node in nodes[1:]:
            yield "0" if node.op == "identity" else "1" if node["expand"] == 3 else "2"

    def site(self, graph: str) -> Site:
        return Site(((STEM_WIDTH, *self.input_shape[1:]),))

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        stem = self.place(plan, "stem", STEM, -1, kernel=3, stride=1, width=STEM_WIDTH)
        net = self.place_graph(plan, "net", arch.graph(), (stem,))
        self.place(plan, "head", WIDE_CLASSIFIER, net, width=HEAD_WIDTH, classes=self.classes)
        return plan
