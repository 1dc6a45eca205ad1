"""MetaQNN (Baker et al. 2017, "Designing Neural Network Architectures using Reinforcement Learning").

A chain of convolutions C(filters, kernel, stride 1), max pools P(kernel, stride) and fully connected layers
FC(units), perhaps global average pooling GAP(classes), and the softmax layer SM(classes). What may follow
depends on the last layer and on the representation size, the side of the feature map, which the rules see as
8 (8 and more), 4 (4 to 7) or 1 (below). The rules are those of the authors' code (bowenbaker/metaqnn,
libs/grammar/state_enumerator.py and models/cifar10/state_space_parameters.py):

- C behind the input, C or P, its kernel smaller than the size that the rules see;
- P behind C only, its kernel likewise;
- FC behind the input, C or P where the rules see a size of 4 or less, or behind FC: two at most, and the
  second is not wider than the first; FC is at least as wide as there are classes;
- GAP behind the input, C or P, and nothing but SM behind it;
- SM behind everything, and it ends the chain. All layers but SM count for the depth.

The networks are theirs too: ReLU behind C and FC, no batch norm, convolutions padded and with bias; GAP is a
1x1 convolution to `classes`, ReLU and the mean over space. Dropout is left out. Pools are not padded and drop
what is left over at the edge, (size - kernel) // stride + 1, as the rules count; Caffe itself rounds up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from nas.architecture import Architecture, InvalidArchitecture, Node
from search_spaces.fragments import Builder, Shape
from search_spaces.graph_space import Site
from search_spaces.operations import Operation
from search_spaces.plan import Placed
from search_spaces.sequences import Layer, SequenceSpace, layer

PAPER: Mapping[str, Any] = {
    "depth": (0, 18),
    "filters": (64, 128, 256, 512),
    "kernels": (1, 3, 5),
    "pools": ((5, 3), (3, 2), (2, 2)),
    "units": (512, 256, 128),
    "most_fc": 2,
}
"""The arguments of the paper's search on CIFAR-10; on SVHN and MNIST the depth is at most 12."""

SIZES = (8, 4, 1)
"""The representation sizes that the rules tell apart; each stands for itself and up to the next larger."""


class Behind(NamedTuple):
    """What the rules know of the layers so far.

    Attributes:
        last: op of the last layer, "input" at the start.
        size: of the representation, smaller side; 0 behind FC and GAP.
        units: of the last FC layer, else 0.
        fcs: FC layers so far.
    """

    last: str
    size: int
    units: int = 0
    fcs: int = 0

    @property
    def seen(self) -> int:
        """The size as the rules see it."""
        return next((size for size in SIZES if self.size >= size), 0)


def _conv(b: Builder, p: Mapping[str, Any]) -> None:
    b.relu("relu", b.conv("conv", -1, p["width"], p["kernel"], bias=True))


def _fc(b: Builder, p: Mapping[str, Any]) -> None:
    b.relu("relu", b.linear("linear", _flat(b), p["width"]))


def _gap(b: Builder, p: Mapping[str, Any]) -> None:
    b.global_pool("pool", b.relu("relu", b.conv("conv", -1, p["width"], 1, bias=True)))


def _flat(b: Builder) -> int:
    return b.flatten("flatten", -1) if len(b.shape(-1)) > 1 else -1


SOFTMAX = Operation(("classes",), lambda b, p: b.linear("linear", _flat(b), p["classes"]))


class MetaQNNSpace(SequenceSpace):
    """MetaQNN's chains; the defaults are lighter than the paper's, which are `PAPER`.

    Args:
        input_shape: (channels, height, width), or (channels, length) for series.
        classes: number of classes.
        depth: smallest and largest number of layers, SM aside.
        filters: of a convolution.
        kernels: of a convolution, odd and smaller than 8.
        pools: pairs (kernel, stride), stride <= kernel < 8.
        units: of an FC layer; sizes below `classes` are left out.
        most_fc: largest number of FC layers.

    Raises:
        ValueError: an argument is senseless.

    Example:
        >>> space = MetaQNNSpace((3, 32, 32), 10, **PAPER)
        >>> arch = space.decode("[C(64,5,1), P(3,2), C(512,1,1), P(2,2), FC(128), SM(10)]")
        >>> space.code(arch)
        '[C(64,5,1), P(3,2), C(512,1,1), P(2,2), FC(128), SM(10)]'
    """

    name = "metaqnn"
    operations: ClassVar = {
        "conv": Operation(("kernel", "width"), _conv),
        "pool": Operation(
            ("kernel", "stride"),
            lambda b, p: b.pool("pool", -1, "max_pool", p["kernel"], p["stride"], pad=False),
        ),
        "fc": Operation(("width",), _fc),
        "gap": Operation((), _gap, place=("width",)),
    }
    axes = (1, 2)

    def __init__(
        self,
        input_shape: Shape = (1, 8, 8),
        classes: int = 10,
        depth: Sequence[int] = (1, 8),
        filters: Sequence[int] = (8, 16, 32, 64),
        kernels: Sequence[int] = (1, 3, 5),
        pools: Sequence[Sequence[int]] = ((5, 3), (3, 2), (2, 2)),
        units: Sequence[int] = (128, 64, 32),
        most_fc: int = 2,
    ) -> None:
        super().__init__(input_shape, classes, depth)
        for choice, values in (("filters", filters), ("kernels", kernels), ("units", units)):
            if len(set(values)) < len(values) or any(type(v) is not int or v < 1 for v in values):
                raise ValueError(f"{choice} must be different positive integers, but got {list(values)}")
        if any(kernel % 2 == 0 or kernel >= SIZES[0] for kernel in kernels):
            raise ValueError(f"kernels must be odd and smaller than {SIZES[0]}, but got {list(kernels)}")
        pairs = tuple(map(tuple, pools))
        if len(set(pairs)) < len(pairs) or not all(map(_is_pool, pairs)):
            raise ValueError(
                "pools must be different pairs of integers (kernel, stride), "
                f"`1 <= stride <= kernel < {SIZES[0]}` and `2 <= kernel`, but got {list(pools)}"
            )
        if type(most_fc) is not int or most_fc < 0:
            raise ValueError(f"`most_fc >= 0` must hold, but got {most_fc=}")
        self.filters, self.kernels, self.pools = tuple(filters), tuple(kernels), pairs
        self.units = tuple(number for number in units if number >= classes)
        self.most_fc = most_fc

    # --- the rules ---------------------------------------------------------------------------------

    def start(self) -> Behind:
        return Behind("input", min(self.input_shape[1:]))

    def layers(self, state: Any) -> list[Layer]:
        found = []
        spatial = state.last in ("input", "conv", "pool")
        if spatial:
            found += [
                layer("conv", width=width, kernel=kernel)
                for width in self.filters
                for kernel in self.kernels
                if kernel < state.seen
            ]
            found.append(layer("gap"))
        if state.last == "conv":
            found += [layer("pool", kernel=k, stride=stride) for k, stride in self.pools if k < state.seen]
        if state.fcs < self.most_fc and (state.last == "fc" or (spatial and state.seen <= SIZES[1])):
            found += [layer("fc", width=width) for width in self.units if width <= (state.units or width)]
        return found

    def step(self, state: Any, layer: Layer) -> Behind:
        op, params = layer
        given: dict[str, Any] = dict(params)
        if op == "conv":
            return Behind("conv", state.size)
        if op == "pool":
            return Behind("pool", (state.size - given["kernel"]) // given["stride"] + 1)
        return Behind(op, 0, given.get("width", 0), state.fcs + (op == "fc"))

    def refusal(self, state: Any, layer: Layer) -> str:
        """Adds where the chain stands to what may come."""
        size = f" at representation size {state.size}" if state.size else ""
        return f"{super().refusal(state, layer)} (behind {state.last}{size})"

    # --- the notation ------------------------------------------------------------------------------

    def decode(self, text: str) -> Architecture:
        """The architecture of MetaQNN's notation, "[C(64,3,1), P(2,2), FC(128), SM(10)]".

        Dropout layers, "D(1,2)", are skipped.

        Raises:
            InvalidArchitecture: the text is not in the notation, or breaks a rule of the space.
        """
        listed = re.fullmatch(r"\s*\[\s*(.*?)\s*\]\s*", text)
        *words, last = re.split(r"\s*,\s*(?=[A-Z])", listed[1]) if listed else [""]
        if last != f"SM({self.classes})":
            raise InvalidArchitecture(f"a code must be [layer, …, SM({self.classes})], but got {text!r}")
        layers = [self._layer(word) for word in words if not re.fullmatch(r"D\(\d+,\d+\)", word)]
        arch = self._write(layers, range(len(layers) + 1))
        self.check_form(arch)
        return arch

    def _layer(self, word: str) -> Layer:
        found = re.fullmatch(r"([A-Z]+)\((\d+(?:,\s*\d+)*)\)", word)
        match (found[1], [int(number) for number in found[2].split(",")]) if found else None:
            case "C", [width, kernel, 1]:
                return layer("conv", width=width, kernel=kernel)
            case "P", [kernel, stride]:
                return layer("pool", kernel=kernel, stride=stride)
            case "FC", [width]:
                return layer("fc", width=width)
            case "GAP", [self.classes]:
                return layer("gap")
        raise InvalidArchitecture(
            f"a layer must be C(filters,kernel,1), P(kernel,stride), FC(units), GAP({self.classes}) or "
            f"D(i,n), but got {word!r}"
        )

    def code(self, arch: Architecture) -> str:
        """The notation of a written form, without dropout; raises `InvalidArchitecture` as `check_form`."""
        self.check_form(arch)
        words = [self._word(node) for node in arch.graph().nodes[1:]]
        return f"[{', '.join([*words, f'SM({self.classes})'])}]"

    def _word(self, node: Node) -> str:
        match node.op:
            case "conv":
                return f"C({node['width']},{node['kernel']},1)"
            case "pool":
                return f"P({node['kernel']},{node['stride']})"
            case "fc":
                return f"FC({node['width']})"
        return f"GAP({self.classes})"

    # --- the network -------------------------------------------------------------------------------

    def site(self, graph: str) -> Site:
        return Site((self.input_shape,), width=self.classes)

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        net = self.place_graph(plan, "net", arch.graph(), (-1,), width=self.classes)
        self.place(plan, "softmax", SOFTMAX, net, classes=self.classes)
        return plan


def _is_pool(pair: Sequence[Any]) -> bool:
    if len(pair) != 2 or any(type(number) is not int for number in pair):
        return False
    kernel, stride = pair
    return bool(1 <= stride <= kernel and 2 <= kernel < SIZES[0])
