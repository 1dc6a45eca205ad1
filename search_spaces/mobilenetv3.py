"""The space of Once-for-all networks (Cai et al. 2020, "Once-for-All: Train One Network and Specialize it for
Efficient Deployment", section 3.2), which MSuNAS searches too (Lu et al. 2020, "NSGANetV2").

MobileNetV3-Large (Howard et al. 2019, table 1) with five elastic stages: 2, 3 or 4 layers, each an inverted
residual with kernel 3, 5 or 7 and expansion 3, 4 or 6; and an elastic input resolution. Widths, strides,
activations and squeeze-and-excitation are those of the authors' code (mit-han-lab/once-for-all,
ofa/imagenet_classification/elastic_nn/networks/ofa_mbv3.py). MobileNetV3-Large itself is no point of it:
three of its expansions are 2.5 and 2.3, and its last but one layer has a bias.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from math import isfinite
from typing import Any, ClassVar

from nas.architecture import Architecture, InvalidArchitecture, Node, Scalar
from search_spaces.fragments import ACTIVATIONS, Builder, Fragment, Layer, Shape
from search_spaces.genes import WHOLE, Gene, GeneSpace, Values
from search_spaces.graph_space import INPUT, GraphSpace, Site
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

STRIDES = (2, 2, 2, 2, 1, 2)
"""Of the stem and the stages."""


def _first(b: Builder, p: Mapping[str, Any]) -> None:
    _mbconv(b, {"activation": "relu", "expand": 1, "kernel": 3, "se": False, "stride": 1, **p})


def _mbconv(b: Builder, p: Mapping[str, Any]) -> None:
    hidden = b.shape(-1)[0] * p["expand"]
    squeezed = divisible(hidden // 4) if p["se"] else 0
    x = inverted_residual(b, p, hidden, squeezed, gate="hard_sigmoid")
    if b.shape(x) == b.shape(-1):
        b.add("residual", (x, -1))


def _head(b: Builder, p: Mapping[str, Any]) -> None:
    x = b.conv_bn_relu("expand", -1, p["expanded"], 1, activation="hard_swish")
    x = b.conv("mix", b.global_pool("pool", x), p["mixed"], 1)
    b.linear("linear", b.flatten("flatten", b.activation("hard_swish", x, "hard_swish")), p["classes"])


MBCONV = Operation(
    ("expand", "kernel"),
    _mbconv,
    options={"activation": ACTIVATIONS, "se": (False, True)},
    place=("stride", "width"),
)
FIRST = Operation(("width",), _first)
HEAD = Operation(("classes", "expanded", "mixed"), _head)


class MobileNetV3Space(GeneSpace):
    """The space of the paper, or one like it.

    Sampling draws one gene after the other, each uniformly: the resolution, and for each stage its depth,
    then kernel and expansion of each layer. So depths are alike, as MSuNAS draws them, not written forms.
    The paper's space is

        MobileNetV3Space((3, 224, 224), 1000)

    and that of MSuNAS `MobileNetV3Space((3, 256, 256), 1000, resolutions=range(192, 257, 4))`. The network
    resizes what it is given as its first layer, bilinearly.

    Args:
        input_shape: (channels, height, width), or (channels, length) for series.
        classes: number of classes.
        widths: of the stages.
        depths: choices of the number of layers of a stage.
        kernels: choices of a layer's kernel, odd.
        expands: choices of a layer's expansion.
        resolutions: choices of the shorter side that the stem sees; the other side keeps the proportion.
            Without it the input's own, and the multiples of 4 from 4/7 of it: 128, 132 … 224 for 224 as in
            the paper, 20, 24, 28, 32 for 32.
        strides: of the stem and of the first layer of each stage. Without it those of MobileNetV3, which
            suit sides of 128 and more; for smaller resolutions the first ones are 1, so that the last
            feature map keeps sides of 4. Must be given if there are not five stages.
        squeeze: whether a stage has squeeze-and-excitation (a quarter of the channels, hard sigmoid).
        activations: of the stages.
        stem: width of the 3x3 convolution before the stages, and of the inverted residual behind it.
        head: widths of the 1x1 convolutions before and behind the pooling.
        width_mult: factor of all widths, rounded to multiples of 8; 1.0 and 1.2 in the authors' networks.
        crossover: its kind, see `search_spaces.crossover`.

    Raises:
        ValueError: an argument is senseless, or a resolution is too small for the strides.

    Example:
        The authors' network of 595M MACs:

        >>> space = MobileNetV3Space((3, 236, 236), 1000, width_mult=1.2)
        >>> arch = space.decode('{"ks": [3, 5, 3, 5, 5, 3, 5, 7, 5, 3, 5, 3, 5, 7, 3, 3, 3, 5, 3], '
        ...                     '"e": [3, 4, 3, 4, 4, 6, 3, 6, 6, 3, 4, 6, 6, 6, 4, 6, 6, 6, 3], '
        ...                     '"d": [3, 4, 4, 4, 4], "r": 236}')
        >>> space.cost(arch).params, space.cost(arch).macs
        (9135928, 595189032)
    """

    name = "mobilenetv3"
    axes = (1, 2)
    operations: ClassVar = {"mbconv": MBCONV}

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        widths: Sequence[int] = (24, 40, 80, 112, 160),
        depths: Sequence[int] = (2, 3, 4),
        kernels: Sequence[int] = (3, 5, 7),
        expands: Sequence[int] = (3, 4, 6),
        resolutions: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        squeeze: Sequence[bool] = (False, True, False, True, True),
        activations: Sequence[str] = ("relu", "relu", "hard_swish", "hard_swish", "hard_swish"),
        stem: int = 16,
        head: Sequence[int] = (960, 1280),
        width_mult: float = 1.0,
        crossover: str = "uniform",
    ) -> None:
        if not widths or any(type(width) is not int or width < 1 for width in widths):
            raise ValueError(f"widths must be positive integers, but got {list(widths)}")
        if not len(widths) == len(squeeze) == len(activations):
            raise ValueError(
                "widths, squeeze and activations must have one entry a stage, but got "
                f"{len(widths)}, {len(squeeze)} and {len(activations)}"
            )
        check_choices("depths", depths)
        check_choices("kernels", kernels, odd=True)
        check_choices("expands", expands)
        if any(type(on) is not bool for on in squeeze):
            raise ValueError(f"squeeze must be true or false, but got {list(squeeze)}")
        check_activations("activations", activations)
        if len(head) != 2 or any(type(width) is not int or width < 1 for width in (stem, *head)):
            raise ValueError(
                f"stem must be a positive integer and head two of them, but got {stem=}, head={list(head)}"
            )
        if width_mult <= 0 or not isfinite(width_mult):
            raise ValueError(f"`width_mult > 0` must hold, but got {width_mult=}")
        if strides is None and len(widths) != len(STRIDES) - 1:
            raise ValueError(
                f"strides must be given for other than {len(STRIDES) - 1} stages, but got {len(widths)}"
            )
        if resolutions is not None:
            check_choices("resolutions", resolutions)
        GraphSpace.__init__(self, input_shape, classes)  # checks input_shape, from which resolutions follow
        self.resolutions = tuple(sorted(resolutions or _resolutions(min(self.input_shape[1:]))))
        self.kernels, self.expands = tuple(sorted(kernels)), tuple(sorted(expands))
        self.longest = max(depths)
        stage = [Gene("depth", tuple(sorted(depths)))]
        for name, choices in (("kernel", self.kernels), ("expand", self.expands)):
            stage += [Gene(f"{name} {layer + 1}", choices) for layer in range(self.longest)]
        stages = {f"stage{place + 1}": stage for place in range(len(widths))}
        genes = {WHOLE: [Gene("resolution", self.resolutions)], **stages}
        super().__init__(input_shape, classes, genes, crossover)
        published = STRIDES if strides is None else (1,) * (len(widths) + 1)
        self.strides = fitting_strides(strides, published, self.resolutions[0], self.input_shape)
        self.squeeze, self.activations = tuple(squeeze), tuple(activations)
        all_widths = [*widths, stem, *head]
        if width_mult != 1:
            all_widths = [divisible(width * width_mult) for width in all_widths]
        *self.widths, self.stem, self.expanded, self.mixed = all_widths

    # --- written forms -----------------------------------------------------------------------------

    def active(self, graph: str, values: Values) -> Sequence[bool] | None:
        if graph == WHOLE:
            return None
        layers = [layer < int(values[0]) for layer in range(self.longest)]
        return [True, *layers, *layers]

    def graph_size(self, graph: str) -> int:
        if graph == WHOLE:
            return super().graph_size(graph)
        layer = len(self.kernels) * len(self.expands)
        return sum(layer ** int(depth) for depth in self.genes[graph][0].choices)

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        stage = self._stage(graph)
        activation, se = self.activations[stage], self.squeeze[stage]
        depth, *layers = values
        yield Node(0, INPUT)
        for layer in range(int(depth)):
            kernel, expand = layers[layer], layers[layer + self.longest]
            params = (("activation", activation), ("expand", expand), ("kernel", kernel), ("se", se))
            yield Node(layer + 1, "mbconv", (layer,), params)

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[Scalar]:
        depth = len(nodes) - 1
        yield depth
        for name, choices in (("kernel", self.kernels), ("expand", self.expands)):
            for layer in range(1, self.longest + 1):
                yield nodes[layer][name] if layer <= depth else choices[0]

    def decode(self, text: str) -> Architecture:
        """The architecture of a configuration as OFA and MSuNAS publish it.

        {"ks": [3, 5, …], "e": [3, 6, …], "d": [2, 3, …], "r": 224}: JSON, with the kernels and expansions
        of all layers, stage after stage, those beyond a stage's depth left out (MSuNAS) or given all the
        same (OFA); the depths of the stages; the resolution.

        Raises:
            InvalidArchitecture: the text is no such configuration, or the space cannot express it.
        """
        try:
            given = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidArchitecture(f"a configuration must be JSON, but {error}") from error
        if (
            not isinstance(given, dict)
            or set(given) != {"ks", "e", "d", "r"}
            or any(not isinstance(given[key], list) for key in ("ks", "e", "d"))
        ):
            raise InvalidArchitecture(
                f'a configuration must be {{"ks": […], "e": […], "d": […], "r": …}}, but got {text!r}'
            )
        if len(given["d"]) != len(self.graphs):
            raise InvalidArchitecture(f'"d" must have {len(self.graphs)} depths, but got {given["d"]}')
        values: dict[str, Values] = {WHOLE: (given["r"],)}
        for name, depth in zip(self.graphs, given["d"], strict=True):
            check_values(name, self.genes[name][:1], (depth,))
            values[name] = (depth,)
        for key, choices in (("ks", self.kernels), ("e", self.expands)):
            for name, layers in zip(self.graphs, self._cut(key, given[key], given["d"]), strict=True):
                values[name] += (*layers, *choices[:1] * (self.longest - len(layers)))
        for name, of_graph in self.genes.items():
            check_values(name, of_graph, values[name])
        return self.architecture(values)

    def _cut(self, key: str, numbers: Sequence[Any], depths: Sequence[int]) -> list[Sequence[Any]]:
        """Of a list in a configuration the entries of each stage."""
        whole = self.longest * len(depths)
        if len(numbers) not in (sum(depths), whole):
            raise InvalidArchitecture(
                f'"{key}" must have {sum(depths)} entries, one a layer, or {whole}, but got {len(numbers)}'
            )
        lengths = depths if len(numbers) == sum(depths) else [self.longest] * len(depths)
        starts = accumulate(lengths, initial=0)
        return [numbers[start : start + depth] for start, depth in zip(starts, depths, strict=False)]

    def code(self, arch: Architecture) -> str:
        """The configuration of a written form, as MSuNAS writes it; raises `InvalidArchitecture` as
        `check_form` does."""
        values = self.values(arch)
        kernels, expands, depths = [], [], []
        for name in self.graphs:
            depth, *layers = values[name]
            depths.append(depth)
            kernels += layers[: int(depth)]
            expands += layers[self.longest :][: int(depth)]
        return json.dumps({"ks": kernels, "e": expands, "d": depths, "r": values[WHOLE][0]})

    def integers(self, arch: Architecture) -> list[int]:
        """The 46 integers of MSuNAS: of each stage the depth, the kernels, the expansions, then the
        resolution, each by its place among the choices, 0 for layers that are not there."""
        resolution, *stages = self._alleles(self._genomes(arch)).tolist()
        return [*stages, resolution]

    def of_integers(self, integers: Sequence[int]) -> Architecture:
        """The architecture of such integers; those of layers that are not there do not matter.

        Raises:
            InvalidArchitecture: there are too many or too few, or one is out of range.
        """
        if len(integers) != len(self._sizes):
            raise InvalidArchitecture(f"there must be {len(self._sizes)} integers, but got {len(integers)}")
        alleles = [integers[-1], *integers[:-1]]
        for gene, number in zip(self._all_genes(), alleles, strict=True):
            if number not in range(len(gene.choices)):
                raise InvalidArchitecture(
                    f"{gene.name} must be 0 to {len(gene.choices) - 1}, but got {number} in {list(integers)}"
                )
        return self.architecture(self._of_alleles(alleles))

    # --- networks ----------------------------------------------------------------------------------

    def site(self, graph: str) -> Site:
        """The stage's at the highest resolution."""
        stage = self._stage(graph)
        sides = strided(self._sides(self.resolutions[-1]), self.strides[: stage + 1])
        before = (self.stem, *self.widths)[stage]
        return Site(((before, *sides),), self.widths[stage], self.strides[stage + 1])

    def adopted(self, arch: Architecture) -> Architecture:
        """At the highest resolution of this space, where it does not have the architecture's own."""
        known = arch.param("resolution") in self.resolutions
        params = arch.params if known else (("resolution", self.resolutions[-1]),)
        return Architecture(self.name, arch.graphs, params)

    def _network(self, arch: Architecture) -> Architecture:
        """The same: no layer of a written form is idle."""
        self.check_names(arch)
        return arch

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        x = self._place_resize(plan, arch.param("resolution"))
        x = self.place(
            plan, "stem", STEM, x, stride=self.strides[0], width=self.stem, activation="hard_swish"
        )
        x = self.place(plan, "first", FIRST, x, width=self.stem)
        for (name, graph), width, stride in zip(arch.graphs, self.widths, self.strides[1:], strict=True):
            x = self.place_graph(plan, name, graph, (x,), width, stride)
        self.place(plan, "head", HEAD, x, classes=self.classes, expanded=self.expanded, mixed=self.mixed)
        return plan

    def _place_resize(self, plan: list[Placed], resolution: Scalar) -> int:
        """The place of the resized input: its own where it has this resolution."""
        sides = self._sides(int(resolution))
        if sides == self.input_shape[1:]:
            return -1
        layer = Layer("resize", "resize", (-1,), (self.input_shape[0], *sides))
        plan.append(Placed("resize", Fragment((self.input_shape,), (layer,)), (-1,)))
        return 0

    def _sides(self, resolution: int) -> tuple[int, ...]:
        """The input's sides where the shorter one is `resolution`."""
        sides = self.input_shape[1:]
        return tuple([max(1, round(side * resolution / min(sides))) for side in sides])

    def _stage(self, graph: str) -> int:
        return self.graphs.index(graph)


def _resolutions(side: int) -> tuple[int, ...]:
    """The default choices for inputs whose shorter side is `side`."""
    step = 4 * max(1, side // 256)
    return tuple(sorted({*range(-(-side // 7) * 4, side + 1, step), side}))
