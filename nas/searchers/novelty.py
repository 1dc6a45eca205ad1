"""From draws to a proposal: the first one that nobody proposed before and that meets the limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, repeat

import numpy as np

from nas.architecture import Architecture
from nas.protocols import Context, Exhausted, NothingToChange, SearchSpace
from nas.trial import Proposal, Trial

SAMPLES = 10_000
"""Random architectures that are tried before a search gives up."""

SINGLE = 3
"""Draws of one change, before each further draw makes one change more. Two cost quality at 400 evaluations
of NAS-Bench-Macro (60 seeds), four cost time: a converged search draws more often."""

WIDEST = 8
"""Changes of the widest draw, before random architectures are drawn."""


def sampled(context: Context, rng: np.random.Generator) -> Iterator[Proposal]:
    """Random architectures, `SAMPLES` of them."""
    for _ in range(SAMPLES):
        yield Proposal(context.space.sample(rng), origin="sample")


def widening() -> Iterator[int]:
    """How many changes each draw makes: 1, 1, 1, 2, 3 … up to `WIDEST`."""
    return chain(repeat(1, SINGLE), range(2, WIDEST + 1))


def changed(space: SearchSpace, arch: Architecture, changes: int, rng: np.random.Generator) -> Architecture:
    """`arch` after so many mutations; as it is where the space holds nothing else."""
    with suppress(NothingToChange):
        for _ in range(changes):
            arch = space.mutate(arch, rng)
    return arch


def child_of(
    space: SearchSpace,
    first: Trial,
    second: Trial,
    changes: int,
    crossover: float,
    mutation: float,
    rng: np.random.Generator,
) -> Proposal:
    """A child of `first`, with probability `crossover` also of `second`; of one parent it is always mutated.

    Args:
        changes: mutations; of two parents' child also, if more than one, else with probability `mutation`.
    """
    child, origin = first.architecture, ""
    ids: tuple[int, ...] = (first.id,)
    if first.id != second.id and rng.random() < crossover:
        child = space.crossover(child, second.architecture, rng)
        ids, origin = (*ids, second.id), "crossover"
    if not origin or changes > 1 or rng.random() < mutation:
        child = changed(space, child, changes, rng)
        origin += "+mutate" if origin else "mutate"
    return Proposal(child, ids, origin)


def first_new(context: Context, draws: Iterable[Proposal]) -> Proposal | Exhausted:
    """The first draw that is not seen yet and within the limits; `Exhausted` says what stood in the way."""
    drawn = seen = 0
    closest = float("inf")
    closest_values = ""
    for proposal in draws:
        drawn += 1
        if context.seen(context.identify(proposal.architecture)):
            seen += 1
            continue
        values = context.exact(proposal.architecture)
        violation = context.violation(values)
        if not violation > 0:
            return proposal
        if violation < closest:
            closest = violation
            closest_values = ", ".join(
                f"{o.name} = {values[o.name]:.10g}"
                for o in context.objectives
                if o.limit is not None and o.name in values
            )
    if closest_values:
        limits = " and ".join(
            o.limit_text() for o in context.objectives if o.limit is not None and o.exact is not None
        )
        fresh = "new " if seen else ""
        return Exhausted(
            f"no {fresh}architecture meets {limits}: of {drawn} drawn the closest had {closest_values}"
        )
    if drawn > seen:
        return Exhausted(f"none of {drawn} architectures drawn has finite values of the exact objectives")
    return Exhausted(f"all of {drawn} architectures drawn were proposed before: the space is all but used up")
