"""MNasNet's factorised hierarchical space (Tan et al. 2019, "MnasNet: Platform-Aware Neural Architecture
Search for Mobile", section 4.1 and figure 4): seven blocks, each a few layers that are all alike.

A block chooses the op, kernel, squeeze-and-excitation and skip of its layers, their width and their number,
the last two around those of MobileNetV2 (Sandler et al. 2018, table 2). Where the paper leaves a choice open:

- the paper's 432 forms of a block take four ops: convolution, depthwise-separable convolution, and inverted
  residuals with expansion 3 and 6;
- a depthwise-separable convolution is an inverted residual without expansion, squeeze-and-excitation has a
  quarter of the channels that come *into* the layer, an identity skip is a sum where the shapes agree: as in
  the authors' code (tensorflow/tpu, models/official/mnasnet);
- a pooling skip is a 3x3 average with the layer's stride, added where the widths agree;
- widths are rounded to multiples of 8, equal ones count once; a block keeps at least one layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, ClassVar

from nas.architecture import Architecture, Graph, InvalidArchitecture, Node, Params, Scalar
from search_spaces.fragments import ACTIVATIONS, Builder, Shape
from search_spaces.genes import Gene, GeneSpace, Values
from search_spaces.graph_space import INPUT, REMEMBERED, Site
from search_spaces.mobile_blocks import (
    STEM,
    check_activations,
    check_choices,
    check_values,
    divisible,
    fitting_strides,
    inverted_residual,
    strided,
)
from search_spaces.operations import Operation
from search_spaces.plan import Placed

WIDTHS = (16, 24, 32, 64, 96, 160, 320)
LAYERS = (1, 2, 3, 4, 3, 3, 1)
STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
"""MobileNetV2's; the first stride is the stem's."""

SE_RATIOS = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0)
"""Ratios that a layer may have."""

SKIPS = ("none", "identity", "pool")
SKIP_WORDS = {"none": "_noskip", "identity": "", "pool": "_pool"}

CODE = re.compile(
    r"r(?P<r>\d+)_k(?P<k>\d+)_s\d+_(?:e(?P<e>\d+)|conv)_i\d+_o(?P<o>\d+)"
    r"(?:_se(?P<se>\d+\.\d+))?(?P<skip>_noskip|_pool|)",
    re.ASCII,
)


def _squeezed(b: Builder, ratio: float) -> int:
    return max(1, int(b.shape(-1)[0] * ratio)) if ratio else 0


def _conv(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.conv_bn_relu("block", -1, p["width"], p["kernel"], p["stride"], activation=p["activation"])
    if p["se"]:
        b.squeeze_excite("se", x, _squeezed(b, p["se"]))


def _mbconv(b: Builder, p: Mapping[str, Any]) -> None:
    inverted_residual(b, p, b.shape(-1)[0] * p["expand"], _squeezed(b, p["se"]))


def _pool(b: Builder, p: Mapping[str, Any]) -> None:
    b.pool("pool", -1, "avg_pool", 3, p["stride"])


def _skip(b: Builder, _: Mapping[str, Any]) -> None:
    """A layer's output plus its skip where the shapes agree, else the former alone."""
    if b.shape(-1) == b.shape(-2):
        b.add("sum", (-1, -2))


def _head(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.conv_bn_relu("expand", -1, p["width"], 1, activation=p["activation"])
    b.linear("linear", b.flatten("flatten", b.global_pool("pool", x)), p["classes"])


OPTIONS: Mapping[str, tuple[Scalar, ...]] = {"activation": ACTIVATIONS, "se": SE_RATIOS}
HEAD = Operation(("classes", "width"), _head, options={"activation": ACTIVATIONS})


class MNasNetSpace(GeneSpace):
    """The space of the paper, or one like it. Sampling draws one gene after the other, each uniformly, and
    so every written form alike.

    Args:
        input_shape: (channels, height, width), or (channels, length) for series.
        classes: number of classes.
        widths: of each block: a number that is multiplied by `multipliers` and rounded to a multiple of 8,
            or a list of the choices themselves.
        multipliers: of the widths.
        layers: of each block: a number to which `more` is added, or a list of the choices themselves.
        more: what is added to the numbers of layers.
        ops: choices of conv, sepconv and mbconv2, mbconv3 … (the number is the expansion).
        kernels: choices, odd.
        se_ratios: choices of `SE_RATIOS`; 0 for a layer without squeeze-and-excitation.
        skips: choices of none, identity, pool.
        strides: of the stem and of the first layer of each block. Without it MobileNetV2's, which suit
            224x224; for smaller inputs the first ones are 1, so that the last feature map keeps sides of 4:
            (1, 1, 1, 1, 2, 1, 2, 1) for 16x16. Must be given if there are not seven blocks.
        stem: channels of the 3x3 convolution before the blocks.
        head: channels of the 1x1 convolution behind them.
        activation: of all convolutions.
        crossover: its kind, see `search_spaces.crossover`; "stage" swaps blocks.

    Raises:
        ValueError: an argument is senseless, or the input is too small for the strides.

    Example:
        >>> widths = [[16], [24], [40], [80], [96], [192], [320]]
        >>> space = MNasNetSpace((3, 224, 224), 1000, widths=widths)
        >>> b1 = space.decode("r1_k3_s11_e1_i32_o16_noskip r3_k3_s22_e3_i16_o24 r3_k5_s22_e3_i24_o40 "
        ...                   "r3_k5_s22_e6_i40_o80 r2_k3_s11_e6_i80_o96 r4_k5_s22_e6_i96_o192 "
        ...                   "r1_k3_s11_e6_i192_o320_noskip")
        >>> space.cost(b1).params, space.cost(b1).macs
        (4383312, 314415872)
    """

    name = "mnasnet"
    axes = (1, 2)
    operations: ClassVar = {
        "conv": Operation(("kernel", "width"), _conv, options=OPTIONS, place=("stride",)),
        "mbconv": Operation(("expand", "kernel", "width"), _mbconv, options=OPTIONS, place=("stride",)),
        "pool": Operation((), _pool, place=("stride",)),
        "skip": Operation((), _skip, (2, 2)),
    }

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        widths: Sequence[int | Sequence[int]] = WIDTHS,
        multipliers: Sequence[float] = (0.75, 1.0, 1.25),
        layers: Sequence[int | Sequence[int]] = LAYERS,
        more: Sequence[int] = (0, 1, -1),
        ops: Sequence[str] = ("conv", "sepconv", "mbconv3", "mbconv6"),
        kernels: Sequence[int] = (3, 5),
        se_ratios: Sequence[float] = (0.0, 0.25),
        skips: Sequence[str] = SKIPS,
        strides: Sequence[int] | None = None,
        stem: int = 32,
        head: int = 1280,
        activation: str = "relu",
        crossover: str = "uniform",
    ) -> None:
        if not widths or len(widths) != len(layers):
            raise ValueError(
                "widths and layers must have one entry a block, but got "
                f"{len(widths)} widths and {len(layers)} layers"
            )
        if not multipliers or any(m <= 0 or not isfinite(m) for m in multipliers):
            raise ValueError(f"multipliers must be positive, but got {list(multipliers)}")
        if not more or any(type(n) is not int for n in more):
            raise ValueError(f"more must be integers, but got {list(more)}")
        if not ops or any(_expansion(op) is None for op in ops):
            raise ValueError(f"ops must be of conv, sepconv, mbconv2, mbconv3 …, but got {list(ops)}")
        check_choices("kernels", kernels, odd=True)
        if not se_ratios or any(ratio not in SE_RATIOS for ratio in se_ratios):
            raise ValueError(f"se_ratios must be of {list(SE_RATIOS)}, but got {list(se_ratios)}")
        if not skips or set(skips) - set(SKIPS):
            raise ValueError(f"skips must be of {list(SKIPS)}, but got {list(skips)}")
        check_choices("stem", [stem])
        check_choices("head", [head])
        check_activations("activation", [activation])
        genes = {}
        for block, (width, number) in enumerate(zip(widths, layers, strict=True), start=1):
            genes[f"block{block}"] = (
                Gene("op", tuple(ops)),
                Gene("kernel", tuple(kernels)),
                Gene("se", tuple(map(float, se_ratios))),
                Gene("filters", _choices("widths", width, [divisible(m * _of(width)) for m in multipliers])),
                Gene("skip", tuple(skips)),
                Gene("layers", _choices("layers", number, [max(1, n + _of(number)) for n in more])),
            )
        super().__init__(input_shape, classes, genes, crossover)
        if strides is None and len(widths) != len(WIDTHS):
            raise ValueError(
                f"strides must be given for other than {len(WIDTHS)} blocks, but got {len(widths)} blocks"
            )
        published = STRIDES if strides is None else (1,) * (len(widths) + 1)
        self.strides = fitting_strides(strides, published, min(self.input_shape[1:]), self.input_shape)
        self.stem, self.head, self.activation = stem, head, activation

    def _remember(self) -> None:
        super()._remember()
        self._trimmed = lru_cache(REMEMBERED)(_without_first_skip)

    # --- written forms -----------------------------------------------------------------------------

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        op, kernel, se, width, skip, layers = values
        params: Params = (("kernel", kernel), ("se", se), ("width", width))
        if op != "conv":
            params = (("expand", _expansion(str(op)) or 1), *params)
        params = (("activation", self.activation), *params)
        yield Node(0, INPUT)
        end = 0
        for layer in range(1, 3 * int(layers), 3):  # ids: layer, its pooling, its sum
            shortcut = end
            yield Node(layer, "conv" if op == "conv" else "mbconv", (end,), params)
            end = layer
            if skip == "pool":
                yield Node(layer + 1, "pool", (shortcut,))
                shortcut = layer + 1
            if skip != "none":
                yield Node(layer + 2, "skip", (layer, shortcut))
                end = layer + 2

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[Scalar]:
        first = nodes[1]
        yield "conv" if first.op == "conv" else _op(first["expand"])
        yield first["kernel"]
        yield first["se"]
        yield first["width"]
        following = nodes[2].op if len(nodes) > 2 else ""
        skip = {"pool": "pool", "skip": "identity"}.get(following, "none")
        yield skip
        yield (len(nodes) - 1) // (1 + SKIPS.index(skip))

    def decode(self, text: str) -> Architecture:
        """The architecture of the authors' block strings, with spaces between them.

        "r3_k5_s22_e3_i24_o40_se0.25" is three layers with kernel 5, stride 2 in both directions, expansion
        3 (1 for sepconv), 24 channels coming in and 40 going out, squeeze-and-excitation ratio .25 and an
        identity skip; "_noskip" behind it means none, "_pool" a pooling one, "conv" instead of "e3" a
        convolution (these two the authors' code does not know).

        Raises:
            InvalidArchitecture: the text is not of this form, or the space cannot express it.
        """
        blocks = text.split()
        if len(blocks) != len(self.graphs):
            raise InvalidArchitecture(f"a code must have {len(self.graphs)} blocks, but got {len(blocks)}")
        values: dict[str, Values] = {}
        for name, block in zip(self.graphs, blocks, strict=True):
            found = CODE.fullmatch(block)
            if not found:
                raise InvalidArchitecture(
                    f"{name}: a block must be like r3_k5_s22_e3_i24_o40_se0.25, but got {block!r}"
                )
            values[name] = (
                _op(int(found["e"])) if found["e"] else "conv",
                int(found["k"]),
                float(found["se"] or 0.0),
                int(found["o"]),
                next(skip for skip, word in SKIP_WORDS.items() if word == found["skip"]),
                int(found["r"]),
            )
            check_values(name, self.genes[name], values[name])
        arch = self.architecture(values)
        for name, block, wanted in zip(self.graphs, blocks, self.code(arch).split(), strict=True):
            if block != wanted:
                raise InvalidArchitecture(f"{name} must be {wanted!r} here, but got {block!r}")
        return arch

    def code(self, arch: Architecture) -> str:
        """The block strings of a written form; raises `InvalidArchitecture` as `check_form` does."""
        blocks, before = [], self.stem
        for (op, kernel, se, width, skip, layers), stride in zip(
            self.values(arch).values(), self.strides[1:], strict=True
        ):
            kind = "conv" if op == "conv" else f"e{_expansion(str(op))}"
            blocks.append(
                f"r{layers}_k{kernel}_s{stride}{stride}_{kind}_i{before}_o{width}"
                f"{f'_se{se}' if se else ''}{SKIP_WORDS[str(skip)]}"
            )
            before = int(width)
        return " ".join(blocks)

    # --- networks ----------------------------------------------------------------------------------

    def site(self, graph: str) -> Site:
        """The block's, behind the first of the widths that the block before it can have."""
        block = self.graphs.index(graph)
        before = self.genes[self.graphs[block - 1]][3].choices[0] if block else self.stem
        sides = strided(self.input_shape[1:], self.strides[: block + 1])
        return Site(((int(before), *sides),), stride=self.strides[block + 1])

    def _network(self, arch: Architecture) -> Architecture:
        """Skips that do not fit removed. Only those around first layers may not: that is also a matter of
        the width of the block before."""
        self.check_names(arch)
        graphs = []
        before: Scalar = self.stem
        for (name, graph), stride in zip(arch.graphs, self.strides[1:], strict=True):
            width = graph.nodes[1]["width"]
            pooled = len(graph) > 2 and graph.nodes[2].op == "pool"
            fits = width == before and (pooled or stride == 1)
            graphs.append((name, graph if fits else self._trimmed(graph)))
            before = width
        return Architecture(arch.space, tuple(graphs), arch.params)

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        stem, *strides = self.strides
        x = self.place(plan, "stem", STEM, -1, stride=stem, width=self.stem, activation=self.activation)
        for (name, graph), stride in zip(arch.graphs, strides, strict=True):
            x = self.place_graph(plan, name, graph, (x,), stride=stride)
        self.place(plan, "head", HEAD, x, classes=self.classes, width=self.head, activation=self.activation)
        return plan


def _without_first_skip(graph: Graph) -> Graph:
    """A block without the skip around its first layer."""
    source, first = graph.nodes[0].id, graph.nodes[1].id
    skip = next((node for node in graph if node.op == "skip" and node.inputs[0] == first), None)
    if skip is None:
        return graph
    dropped = {skip.id, skip.inputs[1]} - {source}
    stands_for = {skip.id: first}
    return Graph(
        tuple(
            [
                Node(n.id, n.op, tuple([stands_for.get(i, i) for i in n.inputs]), n.params)
                for n in graph
                if n.id not in dropped
            ]
        )
    )


def _op(expand: Scalar) -> str:
    return "sepconv" if expand == 1 else f"mbconv{expand}"


def _expansion(op: str) -> int | None:
    """0 for a convolution, 1 for a depthwise-separable one, the number for mbconv2, mbconv3 …, else None."""
    if op in ("conv", "sepconv"):
        return ("conv", "sepconv").index(op)
    found = re.fullmatch(r"mbconv([2-9]|[1-9]\d+)", op, re.ASCII)
    return int(found[1]) if found else None


def _of(entry: int | Sequence[int]) -> int:
    return entry if isinstance(entry, int) else 1


def _choices(name: str, entry: int | Sequence[int], derived: Sequence[int]) -> tuple[int, ...]:
    """The choices that an entry of `widths` or `layers` stands for, in order."""
    listed = [entry] if isinstance(entry, int) else list(entry)
    check_choices(name, listed)
    return tuple(sorted(set(derived) if isinstance(entry, int) else listed))
