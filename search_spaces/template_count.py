"""How many combinations of a template's choices fit: counted step by step, without listing them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from nas.architecture import InvalidArchitecture, Scalar
from search_spaces.fragments import Shape
from search_spaces.genes import Gene
from search_spaces.operations import Operation
from search_spaces.template_steps import Close, Free, Leaf, Open, Setting, Step

Shapes = Mapping[int, Shape]
"""Of what the places put out."""
Known = Mapping[int, Scalar]
"""Values of the genes that were met."""
State = tuple[tuple[tuple[int, Shape], ...], tuple[tuple[int, Scalar], ...]]
"""What later steps still need of both, as sorted pairs."""


def count(
    steps: Sequence[Step], genes: Sequence[Gene], operations: Mapping[str, Operation], input_shape: Shape
) -> int:
    """Number of ways to write the steps such that all shapes fit.

    It takes as long as there are different states: shapes that are open at once, choices that come again.
    """
    needs = _needs(steps)
    ways: list[Counter[State]] = [Counter() for _ in range(len(steps) + 1)]
    ways[0][((0, input_shape),), ()] = 1
    for number in range(len(steps)):
        for (shapes, known), total in ways[number].items():
            for following, now, then in _moves(steps, number, genes, operations, dict(shapes), dict(known)):
                ways[following][_needed(now, then, *needs[following])] += total
        ways[number].clear()
    return sum(ways[-1].values())


def _moves(
    steps: Sequence[Step],
    number: int,
    genes: Sequence[Gene],
    operations: Mapping[str, Operation],
    shapes: Shapes,
    known: Known,
) -> Iterator[tuple[int, Shapes, Known]]:
    """Every way to take one step: the number of the next one, and what is known there."""
    step = steps[number]
    if isinstance(step, Close):
        yield number + 1, {**shapes, step.place: shapes[step.last]}, known
    elif isinstance(step, Open):
        for value, then in _decided(Free(step.gene), genes, known):
            if int(value) < step.least:
                yield step.end, {**shapes, step.place: shapes[step.source]}, then
            else:
                yield number + 1, shapes, then
    else:
        for fragment_shape, then in _leaf(step, genes, operations, shapes, known):
            yield number + 1, {**shapes, step.place: fragment_shape}, then


def _leaf(
    leaf: Leaf, genes: Sequence[Gene], operations: Mapping[str, Operation], shapes: Shapes, known: Known
) -> Iterator[tuple[Shape, Known]]:
    for op, with_op in _decided(leaf.op, genes, known):
        row = leaf.params[str(op)]
        for wiring, with_inputs in _decided(leaf.inputs, genes, with_op):
            sources = tuple([shapes[place] for place in leaf.wirings[wiring]])
            settled: list[tuple[tuple[tuple[str, Scalar], ...], Known]] = [((), with_inputs)]
            for name, setting in row:
                settled = [
                    ((*params, (name, value)), then)
                    for params, before in settled
                    for value, then in _decided(setting, genes, before)
                ]
            for params, then in settled:
                try:
                    yield operations[str(op)].fragments(params, sources).shape, then
                except InvalidArchitecture:
                    continue


def _decided(setting: Setting, genes: Sequence[Gene], known: Known) -> Iterator[tuple[Scalar, Known]]:
    """The values that a setting can have, and what is known with each."""
    if not isinstance(setting, Free):
        yield setting, known
    elif setting.gene in known:
        yield known[setting.gene], known
    else:
        for value in genes[setting.gene].choices:
            yield value, {**known, setting.gene: value}


def _needs(steps: Sequence[Step]) -> list[tuple[frozenset[int], frozenset[int]]]:
    """For each step, and the end, the places and the genes that it or a later one reads."""
    needs: list[tuple[frozenset[int], frozenset[int]]] = [(frozenset(), frozenset())]
    for step in reversed(steps):
        places, read = needs[-1]
        if isinstance(step, Close):
            needs.append((places | {step.last}, read))
        elif isinstance(step, Open):
            needs.append((places | {step.source}, read | {step.gene}))
        else:
            sources = {place for wiring in step.wirings.values() for place in wiring}
            needs.append((places | sources, read.union(*step.uses.values())))
    return needs[::-1]


def _needed(shapes: Shapes, known: Known, places: frozenset[int], genes: frozenset[int]) -> State:
    return (
        tuple(sorted([(place, shape) for place, shape in shapes.items() if place in places])),
        tuple(sorted([(gene, value) for gene, value in known.items() if gene in genes])),
    )
