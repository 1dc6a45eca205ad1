"""Templates: a network of which a user fixes some parts and leaves others open, as TOML or Python tables."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas.architecture import Architecture, InvalidArchitecture, Node, Params, Scalar
from nas.protocols import NothingToChange
from search_spaces.fragments import Shape
from search_spaces.genes import GeneSpace, Values
from search_spaces.graph_space import INPUT, REMEMBERED, Site
from search_spaces.operations import CLASSIFIER, Operation
from search_spaces.plan import Placed
from search_spaces.template_count import count
from search_spaces.template_ops import LEFT_OUT, OPERATIONS
from search_spaces.template_steps import Close, Free, Leaf, Open, Setting, Step, unrolled

EXAMPLE = """
choices = { width = [16, 24, 32] }
nodes = [
  { name = "stem", op = "conv", kernel = 3, width = "$width" },
  { name = "stage", repeat = { choice = [1, 2, 3] }, nodes = [
    { name = "block", op = { choice = ["conv", "sepconv"] }, kernel = { choice = [3, 5] }, width = "$width" },
    { name = "residual", op = "add", inputs = ["block", "input"], optional = true },
  ] },
  { name = "pool", op = { choice = ["max_pool", "avg_pool"] }, kernel = 3, stride = 2 },
  { name = "last", op = "conv", kernel = 1, width = { choice = [32, 64] } },
]
"""
"""What `TemplateSpace()` is made of."""

TRIES = 10_000
"""So many combinations are drawn for one whose shapes fit."""

CHANGES, CROSSINGS = 10, 100
"""So many mutations and crossovers are drawn for one whose shapes fit."""

NEAREST = 1000
"""So many combinations are looked at for the nearest one whose shapes fit."""


class TemplateSpace(GeneSpace):
    """Networks that a template describes; see `search_spaces.template_steps` for how it is written.

    A classifier (mean over space, linear) follows the last node. Only combinations of choices whose shapes
    fit belong to the space. A study keeps its template: it stands in the study file, below `[space]`.

    Args:
        input_shape: (channels, height, width), (channels, length) or (features,).
        classes: number of classes.
        nodes: the nodes in order; those of `EXAMPLE` where nothing is given.
        choices: values by name, for what is chosen once and stands in several places as "$name".
        crossover: its kind, see `search_spaces.crossover`.

    Attributes:
        names: by natural node id, the name in the template, groups and copies before it: "stage.2.block".

    Raises:
        ValueError: the template breaks a rule, or a choice fits in no combination.

    Example:
        >>> space = TemplateSpace((1, 8, 8), nodes=[
        ...     {"name": "a", "op": "conv", "kernel": {"choice": [3, 5]}, "width": "$width"},
        ...     {"name": "b", "op": "sepconv", "kernel": 3, "width": "$width", "repeat": {"choice": [0, 2]}},
        ... ], choices={"width": [8, 16]})
        >>> space.size(), space.names
        (8, {1: 'a', 2: 'b', 3: 'b.1', 4: 'b.2'})
    """

    name = "template"
    axes = (0, 1, 2)
    operations: ClassVar[Mapping[str, Operation]] = OPERATIONS

    def __init__(
        self,
        input_shape: Shape = (3, 32, 32),
        classes: int = 10,
        nodes: Sequence[Mapping[str, Any]] | None = None,
        choices: Mapping[str, Sequence[Scalar]] | None = None,
        crossover: str = "uniform",
    ) -> None:
        if nodes is None:
            if choices is not None:
                raise ValueError("choices must come with nodes, but got none of these")
            example = tomllib.loads(EXAMPLE)
            nodes, choices = example["nodes"], example["choices"]
        usable = {name: op for name, op in self.operations.items() if name != LEFT_OUT}
        self.steps, genes = unrolled(nodes, choices or {}, usable)
        self.names = {step.place: step.name for step in self.steps if not isinstance(step, Close)}
        super().__init__(input_shape, classes, {"net": genes}, crossover)
        self._check_choices()

    def _remember(self) -> None:
        super()._remember()
        self._actives = lru_cache(REMEMBERED)(self._active)
        self._node = lru_cache(REMEMBERED)(Node)

    # --- graphs ------------------------------------------------------------------------------------

    def write(self, graph: str, values: Values) -> Iterator[Node]:
        yield Node(0, INPUT)
        ends = {0: 0}
        for step in self._reached(values):
            if isinstance(step, Close):
                ends[step.place] = ends[step.last]
            elif isinstance(step, Leaf):
                op, params, sources = _chosen(step, values)
                yield self._node(step.place, op, tuple([ends[source] for source in sources]), params)
                ends[step.place] = step.place
            elif _is_left_out(step, values):
                yield self._node(step.place, LEFT_OUT, (ends[step.source],), (("place", step.place),))
                ends[step.place] = step.place

    def read(self, graph: str, nodes: Sequence[Node]) -> Iterator[Scalar]:
        genes = self.genes[graph]
        found: dict[int, Scalar] = {}
        ends = {0: nodes[0].id}  # ids by place
        number, written = 0, 1
        while number < len(self.steps):
            step = self.steps[number]
            number += 1
            if isinstance(step, Close):
                ends[step.place] = ends[step.last]
                continue
            if written == len(nodes):
                raise InvalidArchitecture(f"{step.name!r} of the template must follow, but nothing does")
            node = nodes[written]
            if isinstance(step, Leaf):
                for gene, value in _read_leaf(step, node, ends):
                    genes[gene].index(value)
                    found.setdefault(gene, value)
            elif node.op == LEFT_OUT and node["place"] == step.place:
                found.setdefault(step.gene, min(genes[step.gene].choices))
                number = step.end
            else:
                found[step.gene] = max(found.get(step.gene, step.least), step.least)
                continue
            ends[step.place] = node.id
            written += 1
        for place, of_graph in enumerate(genes):
            yield found.get(place, of_graph.choices[0])

    def active(self, graph: str, values: Values) -> Sequence[bool]:
        """A choice matters if its node is there and its op has this parameter."""
        return self._actives(values)

    def _active(self, values: Values) -> Sequence[bool]:
        used: set[int] = set()
        for step in self._reached(values):
            if isinstance(step, Leaf):
                used |= step.uses[_value(step.op, values)]
            elif isinstance(step, Open):
                used.add(step.gene)
        return [place in used for place in range(len(values))]

    def _reached(self, values: Values) -> Iterator[Step]:
        """The steps in order, without what is left out."""
        number = 0
        while number < len(self.steps):
            step = self.steps[number]
            yield step
            number = step.end if isinstance(step, Open) and _is_left_out(step, values) else number + 1

    def site(self, graph: str) -> Site:
        return Site((self.input_shape,))

    def plan(self, arch: Architecture) -> list[Placed]:
        plan: list[Placed] = []
        end = self.place_graph(plan, "net", arch.graph())
        self.place(plan, "head", CLASSIFIER, end, classes=self.classes)
        return plan

    def graph_size(self, graph: str) -> int:
        """Number of combinations whose shapes fit; long to count where many branches of widths of their own
        are open at once."""
        return count(self.steps, self.genes[graph], self.operations, self.input_shape)

    # --- only what fits ----------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Every choice uniform, also those that do not matter, all drawn again until the shapes fit.

        So forms with fewer copies or optional parts come more often, each for itself.
        """
        for _ in range(TRIES):
            arch = super().sample(rng)
            if self._fits(arch):
                return arch
        raise ValueError(f"none of {TRIES} combinations drawn fits")

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One choice; where the shapes then do not fit, a second one that makes them fit, if there is one."""
        for _ in range(CHANGES):
            child = super().mutate(arch, rng)
            options = [child] if self._fits(child) else self._mended(arch, child)
            if options:
                return options[int(rng.integers(len(options)))]
        around = self.neighbors(arch)
        if not around:
            raise NothingToChange("no change of one choice, or of two, fits: there is nothing to change")
        return around[int(rng.integers(len(around)))]

    def neighbors(self, arch: Architecture) -> list[Architecture]:
        """All architectures with another value of one choice, or of two where one alone does not fit."""
        around: dict[Architecture, None] = {}
        for other in super().neighbors(arch):
            around.update(dict.fromkeys([other] if self._fits(other) else self._mended(arch, other)))
        return list(around)

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """A child whose shapes fit; `a` itself if none of many does."""
        for _ in range(CROSSINGS):
            child = super().crossover(a, b, rng)
            if self._fits(child):
                return child
        return a

    def from_vector(self, x: NDArray[np.float64]) -> Architecture:
        """The nearest architecture whose shapes fit (Euclidean), places that do not matter left out.

        Best first from the rounded point; where none of `NEAREST` looked at fits, always the same one.
        """
        start = self._nearest(x)
        heap = [(0.0, tuple(start.tolist()))]
        known = {heap[0][1]}
        for _ in range(NEAREST):
            if not heap:
                break
            alleles = heappop(heap)[1]
            values = self._of_alleles(alleles)
            arch = self._assembled(values)
            if self._fits(arch):
                return arch
            for place in self._changeable("net", values["net"]):
                for step in (-1, 1):
                    other = (*alleles[:place], alleles[place] + step, *alleles[place + 1 :])
                    if 0 <= other[place] < self._sizes[place] and other not in known:
                        known.add(other)
                        heappush(heap, (float(((other - x) ** 2).sum()), other))
        return self.sample(np.random.default_rng(0))

    def _fits(self, arch: Architecture) -> bool:
        return self._misfit(arch.graph()) is None

    def _mended(self, arch: Architecture, child: Architecture) -> list[Architecture]:
        """What fits of the neighbours of a child that does not."""
        return [other for other in super().neighbors(child) if other != arch and self._fits(other)]

    def _check_choices(self) -> None:
        """Raises `ValueError` unless each choice is found in a combination that fits."""
        rng = np.random.default_rng(0)
        genes = self.genes["net"]
        for _ in range(TRIES if genes else 1):
            misfit = self._misfit(self.write("net", self._drawn(rng)))
            if misfit is None:
                break
        else:
            raise ValueError(f"no combination of choices fits: {misfit}")
        found: set[tuple[int, Scalar]] = set()
        for place, gene in enumerate(genes):
            for value in gene.choices:
                why = "its node is always left out"
                for _ in range(TRIES):
                    if (place, value) in found:
                        break
                    drawn = self._drawn(rng)
                    values = (*drawn[:place], value, *drawn[place + 1 :])
                    misfit = self._misfit(self.write("net", values))
                    if misfit is None:
                        active = self.active("net", values)
                        found.update([(i, v) for i, v in enumerate(values) if active[i]])
                    else:
                        why = misfit
                else:
                    raise ValueError(
                        f"{gene.name} = {value!r} fits in none of {TRIES} combinations drawn: {why}"
                    )

    def _drawn(self, rng: np.random.Generator) -> Values:
        return self._of_alleles(rng.integers(self._sizes).tolist())["net"]

    def _misfit(self, nodes: Iterable[Node]) -> str | None:
        """The first node whose shapes do not fit, by its name, and why."""
        shapes: dict[int, Shape] = {}
        for node in nodes:
            if node.op == INPUT:
                shapes[node.id] = self.input_shape
                continue
            sources = tuple([shapes[source] for source in node.inputs])
            try:
                shapes[node.id] = self.operations[node.op].fragments(node.params, sources).shape
            except InvalidArchitecture as error:
                return f"node {self.names.get(node.id, node.id)!r} ({node.op}): {error}"
        return None


def read_template(path: str | Path) -> dict[str, Any]:
    """The arguments `nodes` and `choices` from a TOML file that is laid out as `EXAMPLE`.

    Raises:
        ValueError: the file cannot be read, is not TOML, or holds something else.

    Example:
        `TemplateSpace((3, 32, 32), 10, **read_template("net.toml"))`; as tables of a study
        `{"space": {"name": "template", **read_template("net.toml")}}`.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"template file {path} must be readable, but {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"template file {path} must be TOML, but: {error}") from error
    if "nodes" not in tables or set(tables) - {"nodes", "choices"}:
        raise ValueError(
            f"template file {path} must hold [[nodes]], and [choices] if it names any, but it holds "
            f"{', '.join(tables) or 'nothing'}"
        )
    return tables


# --- one step at given values ------------------------------------------------------------------------


def _value(setting: Setting, values: Values) -> Scalar:
    return values[setting.gene] if isinstance(setting, Free) else setting


def _is_left_out(step: Open, values: Values) -> bool:
    return int(values[step.gene]) < step.least


def _chosen(leaf: Leaf, values: Values) -> tuple[str, Params, tuple[int, ...]]:
    """Op, parameters and the places that are read."""
    op = str(_value(leaf.op, values))
    params = tuple([(name, _value(setting, values)) for name, setting in leaf.params[op]])
    return op, params, leaf.wirings[_value(leaf.inputs, values)]


def _read_leaf(leaf: Leaf, node: Node, ends: Mapping[int, int]) -> Iterator[tuple[int, Scalar]]:
    """The genes that a node tells, and their values."""
    if isinstance(leaf.op, Free):
        yield leaf.op.gene, node.op
    for name, setting in leaf.params.get(node.op, ()):
        if isinstance(setting, Free):
            yield setting.gene, node[name]
    if isinstance(leaf.inputs, Free):
        for wiring, places in leaf.wirings.items():
            if tuple([ends[place] for place in places]) == node.inputs:
                yield leaf.inputs.gene, wiring
                return
        raise InvalidArchitecture(f"its inputs must be one of {list(leaf.wirings)}, but got {node.inputs}")
