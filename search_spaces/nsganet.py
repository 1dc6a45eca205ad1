"""NSGA-Net's macro space (Lu et al. 2019): phases of ordered nodes, a bit for each pair and one for a skip.

As its released code builds them (ianwhale/nsga-net, models/macro_decoder.py, "residual"):

    first convolution -> nodes -> batch norm, ReLU (-> max pooling, before the next phase)

The first convolution is there only where the width changes: 3x3 in the first phase, 1x1 in the others,
without batch norm. A node is a 3x3 convolution, batch norm and ReLU.

A node that others read but that reads none reads the phase's input; one that reads but that none reads goes
to the phase's output; one that does neither is left out. The last bit sends the input to the output as well.
Several inputs, those of the output too, are concatenated and convolved 1x1, without batch norm.

A phase whose pairs are all 0 is inactive, whatever its last bit. The released code takes it out together
with its width and its pooling; here both stay in their places, so that a phase means the same network
wherever the others are active: an inactive phase is its first convolution alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nas.architecture import Architecture, Node, Scalar
from search_spaces.bit_strings import (
    EMPTY_ID,
    FIRST_ID,
    IN_ID,
    LAST_ID,
    bits_of,
    node_of,
    pairs,
    read_pairs,
    text_of,
    write_pairs,
)
from search_spaces.fragments import Builder, Shape
from search_spaces.genes import Gene, GeneSpace, Values
from search_spaces.graph_space import INPUT, Site
from search_spaces.operations import CLASSIFIER, Operation
from search_spaces.plan import Placed


def _first_conv(b: Builder, p: Mapping[str, Any]) -> None:
    if b.shape(-1)[0] != p["width"]:
        b.conv("conv", -1, p["width"], p["kernel"])


def _merged(b: Builder, width: int) -> int:
    """Several inputs, side by side and convolved 1x1; one input is as it is."""
    if b.inputs == 1:
        return -1
    return b.conv("merge", b.concat("concat", [-1 - i for i in range(b.inputs)]), width, 1)


def _conv(b: Builder, p: Mapping[str, Any]) -> None:
    b.conv_bn_relu("block", _merged(b, p["width"]), p["width"], 3)


def _output(b: Builder, p: Mapping[str, Any]) -> None:
    b.relu("relu", b.batch_norm("bn", _merged(b, p["width"])))


POOL = Operation((), lambda b, _: b.pool("pool", -1, "max_pool", 2, 2, pad=False))


class NSGANetSpace(GeneSpace):
    """Every bit string is a network: 2^48 written forms by default.

    Args:
        input_shape: (channels, height, width), sides at least 2^(phases - 1).
        classes: number of classes.
        nodes: nodes of a phase: 6 in the paper, 4 in its code.
        filters: channels of each phase; the default is what the code's README searches with.
        crossover: its kind, see `search_spaces.crossover`; "common" is the paper's, "two_point" the code's.

    Example:
        >>> space = NSGANetSpace(nodes=4)
        >>> arch = space.decode("1-01-100-1|0-00-010-0|0-00-000-1")
        >>> [node.op for node in space.canonical(arch).graph("phase2")]
        ['input', 'first_conv', 'conv', 'conv', 'output']
        >>> space.code(arch), space.size()
        ('1-01-100-1|0-00-010-0|0-00-000-1', 2097152)
    """

    name = "nsganet"
    operations: ClassVar = {
        "first_conv": Operation(("kernel",), _first_conv, place=("width",)),
        "conv": Operation((), _conv, (1, None), place=("width",)),
        "output": Operation((), _output, (1, None), place=("width",)),
        "isolated": Operation((), lambda b, _: None),
        "inactive": Operation((), lambda b, _: None, options={"skip": (0, 1)}),
    }

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        nodes: int = 6,
        filters: Sequence[int] = (32, 64, 128),
        crossover: str = "common",
    ) -> None:
        if type(nodes) is not int or nodes < 2:
            raise ValueError(f"`nodes >= 2` must hold, but got {nodes=}")
        if not filters or any(type(f) is not int or f < 1 for f in filters):
            raise ValueError(f"filters must be positive integers, one a phase, but got {list(filters)}")
        self.nodes = nodes
        self.filters = {f"phase{phase}": width for phase, width in enumerate(filters, start=1)}
        genes = [*pairs(nodes), Gene("skip", (0, 1))]
        super().__init__(input_shape, classes, dict.fromkeys(self.filters, genes), crossover)
        if min(self.input_shape[1:]) < 2 ** (len(filters) - 1):
            raise ValueError(
                f"the sides of input_shape must be at least {2 ** (len(filters) - 1)} to be halved "
                f"{len(filters) - 1} times, but got {self.input_shape}"
            )
        self._groups = [(*range(1, nodes), 1)] * len(filters)

    def decode(self, text: str) -> Architecture:
        """The architecture of a string such as "1-01-100-1|0-00-010-0|0-00-000-1": groups as in the code's
        lists, the skip last, a "|" between phases.

        Raises:
            InvalidArchitecture: the text is no such string.
        """
        return self.architecture(dict(zip(self.graphs, bits_of(text, self._groups), strict=True)))

    def code(self, arch: Architecture) -> str:
        """The string of a written form; raises `InvalidArchitecture` as `check_form` does."""
        return text_of(list(self.values(arch).values()), self._groups)

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        *bits, skip = values
        nodes, ends = write_pairs(self.nodes, tuple(bits))
        yield node_of(IN_ID, INPUT)
        yield node_of(FIRST_ID, "first_conv", (IN_ID,), (("kernel", 3 if graph == self.graphs[0] else 1),))
        yield from nodes
        if ends:
            yield node_of(LAST_ID, "output", (FIRST_ID, *ends) if skip else tuple(ends))
        else:
            yield node_of(EMPTY_ID, "inactive", (FIRST_ID,), (("skip", skip),))

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[Scalar]:
        yield from read_pairs(nodes, self.nodes)
        last = nodes[-1]
        yield last["skip"] if last.op == "inactive" else int(nodes[1].id in last.inputs)

    def site(self, graph: str) -> Site:
        phase = self.graphs.index(graph)
        channels = self.filters[self.graphs[phase - 1]] if phase else self.input_shape[0]
        return Site(((channels, *(side // 2**phase for side in self.input_shape[1:])),), self.filters[graph])

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        x = -1
        for name, graph in arch.graphs:
            if name != self.graphs[0]:
                x = self.place(plan, f"pool_{name}", POOL, x)
            x = self.place_graph(plan, name, graph, (x,), self.filters[name])
        self.place(plan, "head", CLASSIFIER, x, classes=self.classes)
        return plan
